/* options_fuzz.c - fuzz target: TCP options, in a SYN, in its answer, and on an open connection.
 *
 * Each round opens a connection with the input's bytes as options, sends a segment with more of
 * them, and reads what arrived. Whatever they say, the data must come through as it was sent, or
 * not at all. */
#include "fuzz.h"

struct side {
    uint32_t iss, seq, ack;
    bool answered;
    struct wire last;
};

static void heard(void *ctx, struct host *h, const uint8_t *frame, size_t len, const struct wire *w)
{
    struct side *s = ctx;
    (void)h, (void)frame, (void)len;
    if (w->eth_type != 0x0800 || w->proto != 6)
        return;
    s->last = *w;
    if (w->flags & WIRE_SYN) {
        s->answered = true;
        s->ack = w->seq + 1;
    }
}

/* A segment with raw option bytes. */
static size_t segment(uint8_t *buf, const struct host *h, const struct side *s, uint16_t sport,
                      uint8_t flags, const uint8_t *opt, uint32_t opt_len, uint32_t payload)
{
    uint8_t body[256];
    for (uint32_t i = 0; i < payload; i++)
        body[opt_len + i] = (uint8_t)(s->seq - s->iss - 1 + i);
    memcpy(body, opt, opt_len);
    struct wire w = {.eth_src = {2, 0, 0, 0, 0, 2},
                     .src = PEER_IP,
                     .dst = h->ip,
                     .sport = sport,
                     .dport = 80,
                     .seq = s->seq,
                     .ack = s->ack,
                     .flags = flags,
                     .wnd = 1000,
                     .payload = body,
                     .payload_len = opt_len + payload};
    memcpy(w.eth_dst, h->cfg.mac, 6);
    size_t len = wire_build_tcp(&w, buf);
    buf[34 + 12] = (uint8_t)((20 + opt_len) / 4 << 4);
    wire_fix_checksums(buf, len);
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct host h;
    uint64_t now = 1;
    struct zest_addr here = {.port = 80};
    zest_handle listener;

    fuzz_host(&h, &in, VICTIM_IP);
    zest_listen(h.z, &here, 0, &listener);
    fuzz_introduce(&h, now, PEER_IP);
    for (uint16_t round = 0; in.left > 0 && round < 8; round++) {
        struct side s = {.iss = take32(&in)};
        uint8_t buf[2048], opt[40];
        zest_handle conn = 0;
        uint32_t got = 0;

        s.seq = s.iss;
        for (unsigned step = 0; step < 4; step++) {
            uint32_t n = take8(&in) % 11 * 4;
            for (uint32_t i = 0; i < n; i++)
                opt[i] = take8(&in);
            uint32_t payload = step < 2 ? 0 : take8(&in) % 100;
            size_t len = segment(buf, &h, &s, (uint16_t)(4000 + round),
                                 step == 0 ? WIRE_SYN : WIRE_ACK, opt, n, payload);
            host_receive(&h, now, buf, len, 0);
            now += take_time(&in) % 1000000000;
            host_drain(&h, now, UINT32_MAX, 0, heard, &s);
            if (step == 0)
                s.seq++;
            if (step >= 2 && s.last.ack == s.seq + payload)
                s.seq += payload;
            if (!conn && zest_accept(h.z, listener, &conn, NULL) != 0)
                continue;
            struct zest_view v;
            while (zest_read(h.z, conn, &v, 1) == 1) {
                for (uint32_t i = 0; i < v.len; i++, got++)
                    if (v.addr[i] != (uint8_t)got)
                        die("byte %u of the stream is wrong", got);
                zest_release(h.z, conn, &v, 1);
            }
        }
        if (conn)
            zest_abort(h.z, conn);
        host_drain(&h, now, UINT32_MAX, 0, heard, &s);
    }
    host_fini(&h);
    fuzz_end();
    return 0;
}
