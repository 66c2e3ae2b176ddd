# zest. `make help` lists the targets. The first thing that each of them does is to see that the tools and
# libraries it needs are there (scripts/setup), so a bare Debian 12 can start with `make demo` or `make check`.

# Make knows a CC of its own, "cc": ours unless someone said otherwise.
ifeq ($(origin CC),default)
CC      := gcc
endif
CLANG   ?= clang
SAN     ?=
# One build tree for each compiler and sanitizer set.
comma   := ,
CFG     := $(notdir $(CC))$(if $(SAN),-$(subst $(comma),-,$(SAN)))
BUILD   := build/$(CFG)

WARN    := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
OPT     ?= -O3 -g -fno-semantic-interposition
CFLAGS  += -std=gnu17 $(OPT) $(WARN) -fvisibility=hidden -fPIC $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
CPPFLAGS += -D_GNU_SOURCE -I. -MMD -MP
LDFLAGS += $(if $(SAN),-fsanitize=$(SAN))
LDLIBS  += -lxdp -lbpf -lmnl -lpcap -lev -lpthread

src      = $(sort $(wildcard $(1)/*.c))
obj      = $(patsubst %.c,$(BUILD)/%.o,$(1))

ZBUF_SRC  := $(call src,zbuf)
STACK_SRC := $(call src,stack)
NETIF_SRC := $(filter-out %.bpf.c,$(call src,netif))
APPS_SRC  := $(call src,apps)
SOCK_SRC  := $(call src,sockets)
PD_SRC    := $(call src,sockets/packetdrill)
BENCH_SRC := $(call src,bench)
BPF_SRC   := $(wildcard netif/*.bpf.c)
UNIT_SRC  := $(wildcard tests/unit/*_test.c)
# Likewise programs that print a closing line; what else they need, they include.
SIM_SRC   := $(wildcard tests/sim/*_test.c)
SCRIPT_SRC := $(wildcard tests/script/*_test.c)
FUZZ_SRC  := $(wildcard tests/fuzz/*_fuzz.c)
EX_SRC    := $(call src,examples)
SYS_SRC   := $(call src,tests/system)

# What is installed, and where to.
PREFIX    ?= /usr/local
VERSION   := $(shell sed -n 's/^.define ZEST_VERSION "\(.*\)"/\1/p' stack/zest.h)
PUBLIC    := zbuf/zbuf.h stack/zest.h stack/zest_record.h netif/netif.h netif/probe.h sockets/sockets.h
INST_BIN  := $(DESTDIR)$(PREFIX)/bin
INST_LIB  := $(DESTDIR)$(PREFIX)/lib
INST_INC  := $(DESTDIR)$(PREFIX)/include/zest
INST_MAN  := $(DESTDIR)$(PREFIX)/share/man

PD_LIB    := $(BUILD)/libzest-packetdrill.so
LIBS      := $(BUILD)/libnetif.a $(BUILD)/libstack.a $(BUILD)/libzbuf.a
# What unit tests, simulator, scripts and fuzzers share.
TESTLIB   := $(BUILD)/libtests.a
UNIT_BIN  := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))
BENCH_BIN := $(patsubst bench/%.c,$(BUILD)/bench/%,$(BENCH_SRC))
SYS_BIN   := $(patsubst tests/system/%.c,$(BUILD)/system/%,$(SYS_SRC)) $(BUILD)/system/stall.so
SIM_BIN   := $(patsubst tests/%.c,$(BUILD)/%,$(SIM_SRC))
SCRIPT_BIN := $(patsubst tests/%.c,$(BUILD)/%,$(SCRIPT_SRC))
FUZZ_BIN  := $(patsubst tests/%.c,$(BUILD)/%,$(FUZZ_SRC))
EX_BIN    := $(patsubst %.c,$(BUILD)/%,$(EX_SRC))
BPF_OBJ   := $(patsubst %.c,$(BUILD)/%.o,$(BPF_SRC))

# Each step is one short line; make V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(findstring s,$(firstword -$(MAKEFLAGS))),@:,@printf '  %-5s %s\n' $(1) $(2))

.PHONY: threads all everything help setup demo check check-vm fuzz sim bench mutants coverage deps lint format install uninstall clean unit-bins tests fuzzers fuzz-bins where where-fuzz
.DELETE_ON_ERROR:
.SECONDARY:

all: setup ## build everything
	@$(MAKE) --no-print-directory everything

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: ## install what is missing (Debian packages; says so first)
	@scripts/setup

demo: setup ## the main job, end to end: echo and bench over AF_XDP
	@$(MAKE) --no-print-directory -j2 all
	@scripts/demo

check: setup ## every test; last line: N passed, N failed
	@tests/run

check-vm: setup ## zero-copy on a real driver, in a small emulated machine (QEMU): VM_BYTES=256M VM_TURNS=3
	@$(MAKE) --no-print-directory -j2 $(BUILD)/zest $(BUILD)/sim/sim_test $(BUILD)/unit/record_test $(BUILD)/system/stall.so $(BUILD)/system/foreign $(BUILD)/system/pages
	@VM_SKIP_STATUS=0 tests/vm/memory
	@VM_SKIP_STATUS=0 tests/vm/run

fuzz: setup ## fuzz each target for TIME=60 seconds
	@tests/fuzz/run $(or $(TIME),60)

sim: setup ## the simulator: SEED=n SEEDS=n TIME=s VERBOSE=1 RECORD=1
	@$(MAKE) -s --no-print-directory $(BUILD)/sim/sim_test
	@SEED=$(SEED) SEEDS=$(SEEDS) TIME=$(TIME) VERBOSE=$(VERBOSE) $(if $(RECORD),RECORD=$(RECORD)) $(if $(SAVE),SAVE=$(SAVE)) $(BUILD)/sim/sim_test

mutants: setup ## break one rule at a time; does a test notice? MUTANTS="name..." ALL=1
	@tests/mutants/run $(MUTANTS)

coverage: setup ## lines and branches of stack/ and zbuf/ that the tests run: SHOW=1
	@tests/coverage

deps: $(LIBS) $(BUILD)/libsockets.a $(PD_LIB) ## prove that the rooms depend one way only
	@tests/deps $(BUILD)

# (clang-tidy counts on its standard error what it does not show)
LINT_FLAGS := -std=gnu17 -D_GNU_SOURCE -I. -I$(BUILD)
lint: ## clang-format in check mode, and clang-tidy: nothing is to be found
	@scripts/setup lint
	@$(MAKE) -s --no-print-directory $(BPF_OBJ)
	@clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')
	@echo $(ZBUF_SRC) $(STACK_SRC) $(NETIF_SRC) $(SOCK_SRC) $(PD_SRC) $(APPS_SRC) | bash -o pipefail -c \
	    "xargs -n 4 -P \$$(nproc) sh -c 'clang-tidy --quiet \"\$$@\" -- $(LINT_FLAGS)' sh 2>&1 | \
	    { grep -vE '^[0-9]+ warnings? (generated|treated)' || :; }"
	@echo "lint: nothing found"

format: ## clang-format in place
	clang-format -i $$(git ls-files '*.c' '*.h')

install: setup ## program, library, headers, man pages: PREFIX=/usr/local DESTDIR=
	@$(MAKE) --no-print-directory -j2 $(BUILD)/zest $(BUILD)/libzest.a $(PD_LIB)
	install -D -m 755 $(BUILD)/zest $(INST_BIN)/zest
	install -D -m 644 $(BUILD)/libzest.a $(INST_LIB)/libzest.a
	install -D -m 755 $(PD_LIB) $(INST_LIB)/libzest-packetdrill.so
	for h in $(PUBLIC); do install -D -m 644 $$h $(INST_INC)/$$h || exit; done
	for m in man/*.[1-9]; do install -D -m 644 $$m $(INST_MAN)/man$${m##*.}/$${m##*/} || exit; done
	install -d $(INST_LIB)/pkgconfig
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include/zest' '' 'Name: zest' \
		'Description: zero-copy TCP/IP stack over AF_XDP' 'Version: $(VERSION)' \
		'Cflags: -I$${includedir}' 'Libs: -L$${libdir} -lzest $(LDLIBS)' >$(INST_LIB)/pkgconfig/zest.pc

uninstall: ## remove what make install put there; the same PREFIX and DESTDIR
	rm -f $(INST_BIN)/zest $(INST_LIB)/libzest.a $(INST_LIB)/libzest-packetdrill.so $(INST_LIB)/pkgconfig/zest.pc
	for m in man/*.[1-9]; do rm -f $(INST_MAN)/man$${m##*.}/$${m##*/}; done
	rm -rf $(INST_INC)

clean: ## remove what was built
	rm -rf build

# ---- how things are made

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

# The XDP program: compiled for the kernel's machine, then embedded in libnetif.
BPF_INC := $(shell $(CC) -print-multiarch 2>/dev/null)
$(BUILD)/netif/%.bpf.o: netif/%.bpf.c
	@mkdir -p $(@D)
	$(call say,BPF,$<)
	$(Q)$(CLANG) -O2 -g -target bpf -Wall -Werror -MMD -MP -I. $(if $(BPF_INC),-I/usr/include/$(BPF_INC)) -c $< -o $@

$(BUILD)/netif/xdp_blob.o: CPPFLAGS += -DXDP_KERN_OBJECT='"$(BUILD)/netif/xdp_kern.bpf.o"'
$(BUILD)/netif/xdp_blob.o: $(BUILD)/netif/xdp_kern.bpf.o

$(BUILD)/libzbuf.a: $(call obj,$(ZBUF_SRC))
$(BUILD)/libstack.a: $(call obj,$(STACK_SRC))
$(BUILD)/libnetif.a: $(call obj,$(NETIF_SRC))
$(BUILD)/libsockets.a: $(call obj,$(SOCK_SRC))
$(BUILD)/libtests.a: $(call obj,$(call src,tests/lib))
$(BUILD)/lib%.a:
	@rm -f $@
	$(call say,AR,$@)
	$(Q)ar rcs $@ $^
# What is installed: the library's rooms in one archive.
$(BUILD)/libzest.a: $(call obj,$(ZBUF_SRC) $(STACK_SRC) $(NETIF_SRC) $(SOCK_SRC))

$(BUILD)/zest: $(call obj,$(APPS_SRC)) $(LIBS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@
# The program's modules, for their unit tests.
$(BUILD)/libapps.a: $(call obj,$(filter-out apps/main.c,$(APPS_SRC)))
$(BUILD)/unit/apps_%: $(BUILD)/tests/unit/apps_%.o $(BUILD)/libapps.a $(LIBS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -lcunit $(LDLIBS) -o $@
# What packetdrill loads; all that it shows is the function that packetdrill looks for.
$(PD_LIB): $(call obj,$(PD_SRC)) $(BUILD)/libsockets.a $(LIBS)
	$(call say,LINK,$@)
	$(Q)$(CC) -shared $(LDFLAGS) -Wl,--exclude-libs,ALL,--as-needed,-z,nodelete $^ $(LDLIBS) -o $@
$(BUILD)/unit/sockets_%: $(BUILD)/tests/unit/sockets_%.o $(BUILD)/libsockets.a $(TESTLIB) $(LIBS) $(PD_LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $(filter-out %.so,$^) -lcunit $(LDLIBS) -o $@
$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(TESTLIB) $(LIBS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -lcunit $(LDLIBS) -o $@
$(BUILD)/bench/%: $(BUILD)/bench/%.o $(TESTLIB) $(LIBS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@
# Preloaded by a test.
$(BUILD)/system/%.so: $(BUILD)/tests/system/preload/%.o
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -shared $(LDFLAGS) $^ -ldl -o $@
$(BUILD)/system/%: $(BUILD)/tests/system/%.o $(LIBS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@
$(BUILD)/sim/%: $(BUILD)/tests/sim/%.o $(TESTLIB) $(LIBS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -lcunit $(LDLIBS) -o $@
# The simulator is one program of many files; every allocation of the stack goes through it.
SIM_WRAP  := -Wl,--wrap=zbuf_alloc,--wrap=zbuf_alloc_from,--wrap=zbuf_charge
$(BUILD)/sim/sim_test: $(call obj,$(call src,tests/sim)) $(TESTLIB) $(LIBS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $(SIM_WRAP) $^ $(LDLIBS) -o $@
$(BUILD)/script/%: $(BUILD)/tests/script/%.o $(TESTLIB) $(LIBS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -lcunit $(LDLIBS) -o $@
$(BUILD)/script/script_test: $(call obj,$(call src,tests/script)) $(TESTLIB) $(LIBS)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@
$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(TESTLIB) $(LIBS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -fsanitize=fuzzer $(LDFLAGS) $^ $(LDLIBS) -o $@
# Examples are linked as a user's program would be, with the one archive.
$(BUILD)/examples/%: $(BUILD)/examples/%.o $(BUILD)/libzest.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

unit-bins: $(UNIT_BIN)
# For the thread sanitizer: what has threads.
threads: $(BUILD)/zest $(patsubst %,$(BUILD)/unit/%_test,zbuf_thread zbuf_depot zbuf_transit zbuf_model_threads sockets_thread netif_group)
# What `all` builds. With `tests` in one make, not in two at a time that write the same files.
everything: $(BUILD)/zest $(BUILD)/libzest.a $(PD_LIB) $(SYS_BIN) $(EX_BIN) $(BENCH_BIN)
tests: $(BUILD)/zest $(LIBS) $(UNIT_BIN) $(SIM_BIN) $(SCRIPT_BIN) $(SYS_BIN) $(EX_BIN)

# Fuzzers have a build tree of their own, in which everything is instrumented.
FUZZ_CFG := CC=$(CLANG) SAN=address,undefined,fuzzer-no-link
fuzz-bins: $(FUZZ_BIN)
fuzzers:
	@$(MAKE) --no-print-directory $(FUZZ_CFG) fuzz-bins

# For scripts: where the things of this configuration are.
where:
	@echo $(BUILD)
where-fuzz:
	@$(MAKE) -s --no-print-directory $(FUZZ_CFG) where

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
