/* foreign.c - somebody else's XDP program in libxdp's dispatcher, for tests.
 *
 *   foreign attach IFNAME OBJECT   attaches the first program of OBJECT, and leaves it there
 *   foreign only IFNAME            is exactly one program there?
 *   foreign detach IFNAME          takes all of them away
 *   foreign rip IFNAME             takes the dispatcher off, and leaves its pins (ip link set xdp
 * off) */
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <xdp/libxdp.h>

static int attach(int ifindex, const char *path)
{
    struct bpf_object *obj = bpf_object__open_file(path, NULL);
    struct xdp_program *prog = obj ? xdp_program__from_bpf_obj(obj, "xdp.frags") : NULL;
    if (!prog || libxdp_get_error(prog))
        return 1;
    xdp_program__set_xdp_frags_support(prog, true);
    return xdp_program__attach(prog, ifindex, XDP_MODE_NATIVE, 0) != 0;
}

int main(int argc, char **argv)
{
    int ifindex = argc > 2 ? (int)if_nametoindex(argv[2]) : 0;
    if (ifindex == 0)
        return 2;
    if (strcmp(argv[1], "attach") == 0 && argc == 4)
        return attach(ifindex, argv[3]);
    if (strcmp(argv[1], "rip") == 0)
        return bpf_xdp_detach(ifindex, XDP_FLAGS_DRV_MODE, NULL) != 0;
    struct xdp_multiprog *mp = xdp_multiprog__get_from_ifindex(ifindex);
    if (libxdp_get_error(mp)) {
        puts("no program there");
        return 1;
    }
    if (strcmp(argv[1], "detach") == 0)
        return xdp_multiprog__detach(mp) != 0;
    int n = xdp_multiprog__program_count(mp);
    printf("%d programs, %s\n", n,
           xdp_multiprog__is_legacy(mp) ? "without dispatcher" : "dispatched");
    return n != 1 || xdp_multiprog__is_legacy(mp);
}
