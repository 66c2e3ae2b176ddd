/* wire.c - see wire.h. Slow and plain on purpose. */
#include "wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}
static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

uint16_t wire_sum(uint32_t sum, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i + 1 < len; i += 2) {
        sum += get16(p + i);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if (len & 1)
        sum += (uint32_t)p[len - 1] << 8;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static uint16_t pseudo_sum(const uint8_t *ip, uint8_t proto, uint32_t len)
{
    return wire_sum((uint32_t)proto + len, ip + 12, 8);
}

/* ---- apart */

static const char *parse_options(struct wire_opts *o, const uint8_t *p, uint32_t len)
{
    for (uint32_t i = 0; i < len;) {
        if (p[i] == 0) { /* the rest is padding, and must be zero (RFC 9293 3.1) */
            for (; i < len; i++)
                if (p[i] != 0)
                    return "TCP: padding that is not zero";
            return NULL;
        }
        if (p[i] == 1) {
            i++;
            continue;
        }
        if (i + 2 > len || p[i + 1] < 2 || i + p[i + 1] > len)
            return "TCP: option length";
        const uint8_t *q = p + i;
        uint8_t n = q[1];
        switch (q[0]) {
        case 2:
            if (n != 4)
                return "TCP: MSS option length";
            o->has_mss = true;
            o->mss = get16(q + 2);
            break;
        case 3:
            if (n != 3)
                return "TCP: window scale option length";
            o->has_wscale = true;
            o->wscale = q[2];
            break;
        case 4:
            if (n != 2)
                return "TCP: SACK-permitted option length";
            o->sack_ok = true;
            break;
        case 5:
            if (n < 10 || (n - 2) % 8 != 0 || n > 34)
                return "TCP: SACK option length";
            o->sacks = (uint8_t)((n - 2) / 8);
            for (uint32_t k = 0; k < o->sacks; k++) {
                o->sack[k][0] = get32(q + 2 + 8 * k);
                o->sack[k][1] = get32(q + 6 + 8 * k);
            }
            break;
        case 8:
            if (n != 10)
                return "TCP: timestamp option length";
            o->has_ts = true;
            o->ts_val = get32(q + 2);
            o->ts_ecr = get32(q + 6);
            break;
        default:
            break;
        }
        i += n;
    }
    return NULL;
}

static const char *parse_tcp(struct wire *w, const uint8_t *ip, const uint8_t *p, uint32_t len)
{
    if (len < 20)
        return "TCP: shorter than a header";
    uint32_t hlen = (p[12] >> 4) * 4u;
    if (hlen < 20 || hlen > len)
        return "TCP: data offset";
    if (wire_sum(pseudo_sum(ip, 6, len), p, len) != 0xffff)
        return "TCP: checksum";
    if (p[12] & 0x0f)
        return "TCP: reserved bits";
    w->sport = get16(p);
    w->dport = get16(p + 2);
    w->seq = get32(p + 4);
    w->ack = get32(p + 8);
    w->flags = p[13];
    w->wnd = get16(p + 14);
    w->urg = get16(p + 18);
    w->payload = p + hlen;
    w->payload_len = len - hlen;
    return parse_options(&w->opt, p + 20, hlen - 20);
}

static const char *parse_ip(struct wire *w, const uint8_t *p, uint32_t len)
{
    if (len < 20)
        return "IPv4: shorter than a header";
    uint32_t hlen = (p[0] & 15u) * 4, total = get16(p + 2);
    if (p[0] >> 4 != 4 || hlen < 20)
        return "IPv4: version or header length";
    if (hlen > len || total < hlen || total > len)
        return "IPv4: total length";
    if (wire_sum(0, p, hlen) != 0xffff)
        return "IPv4: checksum";
    if (get16(p + 6) & 0xbfff)
        return "IPv4: a fragment";
    w->tos = p[1];
    w->proto = p[9];
    w->src = get32(p + 12);
    w->dst = get32(p + 16);
    w->ip_len = total;
    w->payload = p + hlen;
    w->payload_len = total - hlen;
    if (w->proto == 6)
        return parse_tcp(w, p, w->payload, w->payload_len);
    if (w->proto == 1) {
        if (w->payload_len < 8)
            return "ICMP: shorter than a header";
        if (wire_sum(0, w->payload, w->payload_len) != 0xffff)
            return "ICMP: checksum";
        w->icmp_type = w->payload[0];
        w->icmp_code = w->payload[1];
    }
    return NULL;
}

const char *wire_parse(struct wire *w, const uint8_t *frame, size_t len)
{
    memset(w, 0, sizeof *w);
    if (len < 14)
        return "Ethernet: shorter than a header";
    memcpy(w->eth_dst, frame, 6);
    memcpy(w->eth_src, frame + 6, 6);
    w->eth_type = get16(frame + 12);
    const uint8_t *p = frame + 14;
    len -= 14;
    if (w->eth_type == 0x0800)
        return parse_ip(w, p, (uint32_t)len);
    if (w->eth_type != 0x0806)
        return "Ethernet: unknown type";
    if (len < 28 || get32(p) != 0x00010800 || get16(p + 4) != 0x0604)
        return "ARP: malformed";
    w->arp_op = get16(p + 6);
    memcpy(w->arp_sha, p + 8, 6);
    w->arp_spa = get32(p + 14);
    w->arp_tpa = get32(p + 24);
    return w->arp_op == 1 || w->arp_op == 2 ? NULL : "ARP: operation";
}

/* ---- together */

static uint8_t *build_eth(const struct wire *w, uint8_t *p, uint16_t type)
{
    memcpy(p, w->eth_dst, 6);
    memcpy(p + 6, w->eth_src, 6);
    put16(p + 12, type);
    return p + 14;
}

static uint8_t *build_ip(const struct wire *w, uint8_t *p, uint8_t proto, uint32_t payload)
{
    memset(p, 0, 20);
    p[0] = 0x45;
    p[1] = w->tos;
    put16(p + 2, 20 + payload);
    put16(p + 6, 0x4000);
    p[8] = 64;
    p[9] = proto;
    put32(p + 12, w->src);
    put32(p + 16, w->dst);
    put16(p + 10, (uint16_t)~wire_sum(0, p, 20));
    return p + 20;
}

static uint32_t build_options(const struct wire_opts *o, uint8_t *p)
{
    uint8_t *start = p;
    if (o->has_mss) {
        *p++ = 2;
        *p++ = 4;
        put16(p, o->mss);
        p += 2;
    }
    if (o->sack_ok) {
        *p++ = 4;
        *p++ = 2;
    }
    if (o->has_ts) {
        *p++ = 8;
        *p++ = 10;
        put32(p, o->ts_val);
        put32(p + 4, o->ts_ecr);
        p += 8;
    }
    if (o->has_wscale) {
        *p++ = 3;
        *p++ = 3;
        *p++ = o->wscale;
    }
    if (o->sacks) {
        *p++ = 5;
        *p++ = (uint8_t)(2 + 8 * o->sacks);
        for (uint32_t k = 0; k < o->sacks; k++, p += 8) {
            put32(p, o->sack[k][0]);
            put32(p + 4, o->sack[k][1]);
        }
    }
    while ((p - start) % 4 != 0)
        *p++ = 1;
    return (uint32_t)(p - start);
}

size_t wire_build_tcp(const struct wire *w, uint8_t *buf)
{
    uint8_t opt[64];
    uint32_t opt_len = build_options(&w->opt, opt);
    uint32_t len = 20 + opt_len + w->payload_len;
    uint8_t *ip = build_eth(w, buf, 0x0800);
    uint8_t *p = build_ip(w, ip, 6, len);
    put16(p, w->sport);
    put16(p + 2, w->dport);
    put32(p + 4, w->seq);
    put32(p + 8, w->ack);
    p[12] = (uint8_t)((20 + opt_len) / 4 << 4);
    p[13] = w->flags;
    put16(p + 14, w->wnd);
    put16(p + 16, 0);
    put16(p + 18, w->urg);
    memcpy(p + 20, opt, opt_len);
    if (w->payload_len)
        memcpy(p + 20 + opt_len, w->payload, w->payload_len);
    put16(p + 16, (uint16_t)~wire_sum(pseudo_sum(ip, 6, len), p, len));
    return 34 + len;
}

size_t wire_build_arp(const struct wire *w, uint8_t *buf)
{
    uint8_t *p = build_eth(w, buf, 0x0806);
    put32(p, 0x00010800);
    put16(p + 4, 0x0604);
    put16(p + 6, w->arp_op);
    memcpy(p + 8, w->arp_sha, 6);
    put32(p + 14, w->arp_spa);
    memset(p + 18, 0, 6);
    if (w->arp_op == 2)
        memcpy(p + 18, w->eth_dst, 6);
    put32(p + 24, w->arp_tpa);
    return 42;
}

size_t wire_build_icmp(const struct wire *w, uint8_t *buf, uint32_t rest)
{
    uint8_t *p = build_ip(w, build_eth(w, buf, 0x0800), 1, 8 + w->payload_len);
    p[0] = w->icmp_type;
    p[1] = w->icmp_code;
    put16(p + 2, 0);
    put32(p + 4, rest);
    if (w->payload_len)
        memcpy(p + 8, w->payload, w->payload_len);
    put16(p + 2, (uint16_t)~wire_sum(0, p, 8 + w->payload_len));
    return 34 + 8 + w->payload_len;
}

void wire_fix_checksums(uint8_t *frame, size_t size)
{
    if (size < 34 || get16(frame + 12) != 0x0800)
        return;
    uint8_t *ip = frame + 14;
    uint32_t len = (uint32_t)size - 14, hlen = (ip[0] & 15u) * 4, total = get16(ip + 2);
    if (hlen < 20 || hlen > len)
        return;
    put16(ip + 10, 0);
    put16(ip + 10, (uint16_t)~wire_sum(0, ip, hlen));
    if (total < hlen || total > len)
        return;
    uint8_t *p = ip + hlen;
    uint32_t n = total - hlen;
    uint32_t at = ip[9] == 6 ? 16 : ip[9] == 17 ? 6 : 2;
    if ((ip[9] != 6 && ip[9] != 17 && ip[9] != 1) || n < at + 2)
        return;
    put16(p + at, 0);
    put16(p + at, (uint16_t)~wire_sum(ip[9] == 1 ? 0 : pseudo_sum(ip, ip[9], n), p, n));
}

/* ---- for people */

struct text {
    char *at;
    size_t left;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->at, t->left, fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n >= t->left ? t->left - 1 : (size_t)n;
    t->at += used;
    t->left -= used;
}

static void say_ip(struct text *t, uint32_t ip)
{
    say(t, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}

static void say_tcp(struct text *t, const struct wire *w)
{
    static const char letters[] = "FSRPAUEC";
    say(t, ":%u > ", w->sport);
    say_ip(t, w->dst);
    say(t, ":%u ", w->dport);
    for (unsigned i = 0; i < 8; i++)
        if (w->flags & 1u << i)
            say(t, "%c", letters[i]);
    say(t, " seq %u ack %u win %u len %u", w->seq, w->ack, w->wnd, w->payload_len);
    const struct wire_opts *o = &w->opt;
    if (o->has_mss)
        say(t, " mss %u", o->mss);
    if (o->has_wscale)
        say(t, " wscale %u", o->wscale);
    if (o->sack_ok)
        say(t, " sackOK");
    if (o->has_ts)
        say(t, " ts %u/%u", o->ts_val, o->ts_ecr);
    for (unsigned i = 0; i < o->sacks; i++)
        say(t, " sack %u-%u", o->sack[i][0], o->sack[i][1]);
}

char *wire_text(const uint8_t *frame, size_t len, char *buf, size_t size)
{
    struct text t = {buf, size};
    struct wire w;
    const char *wrong = wire_parse(&w, frame, len);
    if (w.eth_type == 0x0806) {
        say(&t, "ARP %s ", w.arp_op == 1 ? "who has" : "answer:");
        say_ip(&t, w.arp_op == 1 ? w.arp_tpa : w.arp_spa);
    } else if (w.eth_type == 0x0800 && w.ip_len) {
        say_ip(&t, w.src);
        if (w.proto == 6) {
            say_tcp(&t, &w);
        } else {
            say(&t, " > ");
            say_ip(&t, w.dst);
            say(&t, w.proto == 1 ? " ICMP %u/%u" : " protocol %u",
                w.proto == 1 ? w.icmp_type : w.proto, w.icmp_code);
        }
    }
    if (wrong)
        say(&t, " [%s] %zu bytes", wrong, len);
    return buf;
}

/* ---- as a link reads it */

size_t wire_gather(const struct zbuf_pool *pool, const struct zest_frame *f, uint8_t *buf,
                   const char **why)
{
    size_t len = 0;

    *why = NULL;
    if (f->n < 1 || f->n > ZEST_FRAME_SEGS) {
        *why = "number of descriptors";
        return 0;
    }
    for (unsigned i = 0; i < f->n; i++) {
        const uint8_t *p = f->seg[i].addr;
        const struct zbuf *zb = zbuf_of(pool, p);
        if (!zb)
            *why = "a descriptor that lies in no live segment";
        else if (f->seg[i].len == 0)
            *why = "an empty descriptor";
        else if (f->seg[i].len > zb->size || p + f->seg[i].len > zbuf_end(zb))
            *why = "a descriptor that runs out of its segment";
        else if (len + f->seg[i].len > WIRE_MAX)
            *why = "a frame that is too long";
        if (*why)
            return 0;
        memcpy(buf + len, p, f->seg[i].len);
        len += f->seg[i].len;
    }
    if (f->csum) {
        uint32_t at = (uint32_t)f->csum_start + f->csum_offset;
        if (f->csum_start < 14 || at + 2 > len) {
            *why = "a checksum outside the frame";
            return 0;
        }
        /* The field holds the pseudo-header's sum, as for AF_XDP and Linux. */
        put16(buf + at, (uint16_t)~wire_sum(0, buf + f->csum_start, len - f->csum_start));
    }
    return len;
}

size_t wire_segment(const uint8_t *frame, size_t len, uint32_t gso_size, unsigned i, uint8_t *out)
{
    uint32_t ip_len = (frame[14] & 15u) * 4, tcp_at = 14 + ip_len;
    uint32_t head = tcp_at + (frame[tcp_at + 12] >> 4) * 4u, payload = (uint32_t)len - head;
    uint32_t from = i * gso_size;
    if (from >= payload)
        return 0;
    uint32_t n = payload - from < gso_size ? payload - from : gso_size;
    uint8_t *tcp = out + tcp_at;

    memcpy(out, frame, head);
    memcpy(out + head, frame + head + from, n);
    put16(out + 16, (uint16_t)(head - 14 + n));
    put32(tcp + 4, get32(tcp + 4) + from);
    if (from + n < payload)
        tcp[13] &= (uint8_t) ~(WIRE_FIN | WIRE_PSH);
    wire_fix_checksums(out, head + n);
    return head + n;
}

struct zbuf *wire_receive(struct zbuf_budget *b, const uint8_t *frame, size_t len, uint32_t front,
                          uint32_t cut, uint32_t seg)
{
    struct zbuf *head = NULL, *last = NULL;
    size_t done = 0;

    if (cut && cut < len / 64) /* no link has so many parts */
        cut = (uint32_t)(len / 64);
    do {
        size_t n = cut && len - done > cut ? cut : len - done;
        size_t need = front + n + ZBUF_OVERHEAD;
        struct zbuf *zb = zbuf_alloc_from(b, (need > seg ? need : seg) - ZBUF_OVERHEAD);
        if (!zb) {
            zbuf_chain_free(head);
            return NULL;
        }
        zb->data += front;
        memcpy(zb->data, frame + done, n);
        zb->len = (uint32_t)n;
        if (last)
            last->next = zb;
        else
            head = zb;
        last = zb;
        done += n;
    } while (done < len);
    return head;
}
