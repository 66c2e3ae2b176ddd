/* verdicts.c - what the XDP program takes: frames made up by hand, run through the program by the
 * kernel (BPF_PROG_TEST_RUN), attached to nothing. No socket is in its map, so what it would take
 * is passed and counted as missed: that counter is its verdict.
 *
 * Usage: verdicts OBJECT */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASS 2

static unsigned passed, failed;
static int prog_fd, missed_fd;
static uint8_t f[2048];

static void load(const char *path, bool by_port)
{
    struct {
        uint8_t ip[4];
        uint32_t by_port;
        uint8_t owner[24];
    } wants = {.ip = {10, 0, 0, 1}, .by_port = by_port};
    struct bpf_object *obj = bpf_object__open_file(path, NULL);
    struct bpf_map *map;
    if (!obj) {
        fprintf(stderr, "verdicts: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    bpf_object__for_each_map(map, obj) if (strstr(bpf_map__name(map), ".rodata"))
        bpf_map__set_initial_value(map, &wants, sizeof wants);
    if (bpf_object__load(obj)) {
        puts("this kernel does not load the program here");
        exit(77);
    }
    /* Ports 7 and 65535. */
    uint32_t word = 0;
    uint64_t bits = 1u << 7;
    int ports = bpf_object__find_map_fd_by_name(obj, "zest_ports");
    bpf_map_update_elem(ports, &word, &bits, 0);
    word = 1023;
    bits = UINT64_C(1) << 63;
    bpf_map_update_elem(ports, &word, &bits, 0);
    missed_fd = bpf_object__find_map_fd_by_name(obj, "zest_missed");
    prog_fd = bpf_program__fd(bpf_object__find_program_by_name(obj, "zest_xdp"));
}

static uint64_t missed(void)
{
    uint32_t queue = 0;
    uint64_t n = 0;
    bpf_map_lookup_elem(missed_fd, &queue, &n);
    return n;
}

static void expect(const char *what, bool ours, uint32_t len)
{
    LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f, .data_size_in = len);
    uint64_t before = missed();
    int rc = bpf_prog_test_run_opts(prog_fd, &o);
    bool is = missed() > before;
    if (rc == 0 && o.retval == PASS && is == ours) {
        passed++;
        return;
    }
    failed++;
    printf("FAILED: %s: %s (%d, verdict %u)\n", what, is ? "taken" : "left", rc, o.retval);
}

/* ---- frames; put() gives the length */

static void eth(uint16_t type)
{
    memset(f, 0, sizeof f);
    f[12] = (uint8_t)(type >> 8);
    f[13] = (uint8_t)type;
}

static uint8_t *ip(uint8_t *p, uint8_t proto, uint8_t words, const uint8_t *src, const uint8_t *dst)
{
    p[0] = 0x40 | words;
    p[9] = proto;
    memcpy(p + 12, src, 4);
    memcpy(p + 16, dst, 4);
    return p + 4 * words;
}

static const uint8_t us[4] = {10, 0, 0, 1}, them[4] = {10, 0, 0, 2};

static void tcp(uint8_t words, const uint8_t *dst, uint16_t port)
{
    eth(0x0800);
    uint8_t *p = ip(f + 14, 6, words, them, dst);
    p[2] = (uint8_t)(port >> 8);
    p[3] = (uint8_t)port;
}

static void icmp(uint8_t type, const uint8_t *src, uint16_t port, uint8_t proto)
{
    eth(0x0800);
    uint8_t *p = ip(f + 14, 1, 5, them, us);
    p[0] = type;
    p = ip(p + 8, proto, 6, src, them);
    p[0] = (uint8_t)(port >> 8);
    p[1] = (uint8_t)port;
}

static void arp(const uint8_t *target)
{
    eth(0x0806);
    memcpy(f + 38, target, 4);
}

static void whole_address(void)
{
    tcp(5, us, 99);
    expect("any port", true, 60);
    tcp(5, them, 99);
    expect("another address", false, 60);
    icmp(8, us, 0, 0);
    expect("a ping", true, 60);
    arp(us);
    expect("ARP for us", true, 60);
    arp(them);
    expect("ARP for another", false, 60);
    expect("ARP cut short", false, 41);
    tcp(5, us, 99);
    expect("IP cut short", false, 33);
    expect("nothing", false, 14);
    eth(0x86dd);
    expect("IPv6", false, 60);
}

static void single_ports(void)
{
    tcp(5, us, 7);
    expect("our port", true, 60);
    tcp(15, us, 7);
    expect("our port behind IP options", true, 120);
    tcp(5, us, 65535);
    expect("the last port", true, 60);
    tcp(5, us, 8);
    expect("the kernel's port", false, 60);
    tcp(5, us, 65534);
    expect("the kernel's last", false, 60);
    tcp(5, them, 7);
    expect("our port of another address", false, 60);
    tcp(5, us, 7);
    f[23] = 17;
    expect("UDP to it", false, 60);
    tcp(5, us, 7);
    f[20] = 0x20;
    expect("the first fragment", true, 60);
    f[21] = 1;
    expect("a later fragment: bytes, not ports", false, 60);
    tcp(5, us, 7);
    expect("ports cut off", false, 37);
    expect("ports just there", true, 38);
    arp(us);
    expect("ARP stays the kernel's", false, 60);
    icmp(8, us, 7, 6);
    expect("so does a ping", false, 90);
    icmp(3, us, 7, 6);
    expect("an error about a segment of ours", true, 90);
    icmp(11, us, 65535, 6);
    expect("time exceeded", true, 90);
    icmp(3, us, 8, 6);
    expect("an error about the kernel's", false, 90);
    icmp(3, them, 7, 6);
    expect("about another address's", false, 90);
    icmp(3, us, 7, 17);
    expect("about UDP", false, 90);
    icmp(3, us, 7, 6);
    expect("an error cut short", false, 14 + 20 + 8 + 24 + 1);
    expect("an error with just the port", true, 14 + 20 + 8 + 24 + 2);
    for (uint32_t len = 14; len < 100; len++) /* nothing crashes, nothing short is taken */
        if (len < 68)
            expect("an error cut anywhere", false, len);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    load(argv[1], false);
    whole_address();
    load(argv[1], true);
    single_ports();
    printf("verdicts: %u passed, %u failed\n", passed, failed);
    return failed != 0;
}
