/* frames_fuzz.c - fuzz target: any frames at all, as a link would bring them.
 *
 * The input is a list of frames, each with a byte of how to treat it: as it is, with the Ethernet
 * header made to be for us, or with all checksums put right, so that what lies behind them is
 * reached. A listener and a connection that is being opened wait for them. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct host h;
    uint64_t now = 1;
    struct zest_addr here = {.port = 80}, there = fuzz_addr(PEER_IP, 7);
    zest_handle listener, conn, accepted[4] = {0};
    struct zest_view views[8];
    struct zest_event ev[8];

    fuzz_host(&h, &in, VICTIM_IP);
    zest_listen(h.z, &here, 2, &listener);
    zest_connect(h.z, &there, NULL, &conn);
    fuzz_introduce(&h, now, PEER_IP);
    while (in.left > 0) {
        uint8_t frame[2048];
        uint8_t how = take8(&in);
        size_t len = take16(&in) % sizeof frame;
        if (len > in.left)
            len = in.left;
        memcpy(frame, in.p, len);
        in.p += len;
        in.left -= len;
        if (how & 1 && len >= 14) {
            memcpy(frame, h.cfg.mac, 6);
            frame[12] = 8;
            frame[13] = how & 2 ? 0 : 6;
        }
        if (how & 4 && len >= 34) {
            memcpy(frame + 30, h.cfg.ip.ip + 12, 4);
            wire_fix_checksums(frame, len);
        }
        if (how & 8)
            now += take_time(&in);
        h.rx_cut = how & 0x80 ? 1 + (how & 0x70) * 2u : 0;
        host_receive(&h, now, frame, len, how >> 4);
        host_drain(&h, now, UINT32_MAX, 0, NULL, NULL);
        host_complete(&h, now);
        zest_events(h.z, ev, 8);
        for (unsigned i = 0; i < 4; i++) {
            if (!accepted[i])
                zest_accept(h.z, listener, &accepted[i], NULL);
            int n = zest_read(h.z, accepted[i] ? accepted[i] : conn, views, 8);
            if (n > 0)
                zest_release(h.z, accepted[i] ? accepted[i] : conn, views, (unsigned)n);
        }
    }
    host_fini(&h);
    fuzz_end();
    return 0;
}
