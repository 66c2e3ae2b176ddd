/* adapter.c - a driver for sockets/ whose time stands still but when the script lets it pass.
 *
 * The script's sleeps move the clock from deadline to deadline, and so does waiting for a packet;
 * looking at the clock costs a microsecond, so that a loop around it ends. Nothing takes real time.
 * Before the clock moves, every call that waits on another thread has looked at what there is
 * (sockets_settle()), so the same script gives the same packets at the same times.
 *
 * What the stack has to send leaves at once: the call that caused it, or the clock, takes it to the
 * queue of packets out. The Ethernet around it is made and removed here, and ARP is answered for
 * every address but our own. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapter.h"

#define ETH_LEN     14u
#define ARP_LEN     28u
#define POOL_BYTES  (64u << 20)
#define QUEUE_MAX   65536u /* packets out that nobody fetches; the next are lost */
#define BURST       32u
#define STUCK       100000u /* turns without time passing: a bug */
#define COURTESY_NS 1000000 /* real time for a call that has ended to get back to its script */
#define START_NS    1000000000
#define FRAME_MAX   (ETH_LEN + 9000u + 64u)

static const uint8_t MAC_LOCAL[6] = {2, 0, 0, 0, 0, 1}, MAC_GATEWAY[6] = {2, 0, 0, 0, 0, 2};

struct packet {
    struct packet *next;
    int64_t usecs;
    size_t len;
    uint8_t bytes[];
};

struct adapter {
    struct adapter_flags flags;
    struct zbuf_pool *pool;
    struct sockets *s;
    /* under the lock of s */
    uint64_t now_ns;
    int64_t start_usecs; /* of the world's clock, at START_NS of ours */
    struct packet *head, **tail;
    unsigned queued;
};

static int64_t usecs_of(const struct adapter *a)
{
    return a->start_usecs + (int64_t)((a->now_ns - START_NS) / 1000);
}

/* ---- frames */

static struct zbuf *frame_new(struct adapter *a, uint16_t eth_type, const void *payload, size_t len)
{
    struct zbuf *zb = zbuf_alloc(a->pool, ETH_LEN + len);

    if (!zb)
        return NULL;
    memcpy(zb->data, MAC_LOCAL, 6);
    memcpy(zb->data + 6, MAC_GATEWAY, 6);
    zb->data[12] = (uint8_t)(eth_type >> 8);
    zb->data[13] = (uint8_t)eth_type;
    memcpy(zb->data + ETH_LEN, payload, len);
    zb->len = (uint32_t)(ETH_LEN + len);
    return zb;
}

/* RFC 826: a question about anyone else is answered with the gateway's address. */
static void answer_arp(struct adapter *a, struct zest *z, const uint8_t *arp, size_t len)
{
    uint8_t reply[ARP_LEN];
    const uint8_t *target = arp + 24;

    if (len < ARP_LEN || arp[6] != 0 || arp[7] != 1 ||
        memcmp(target, a->flags.local.ip + 12, 4) == 0)
        return;
    memcpy(reply, arp, 6);
    reply[6] = 0;
    reply[7] = 2;
    memcpy(reply + 8, MAC_GATEWAY, 6);
    memcpy(reply + 14, target, 4);
    memcpy(reply + 18, arp + 8, 10);
    struct zbuf *zb = frame_new(a, 0x0806, reply, sizeof reply);
    if (zb)
        zest_input(z, a->now_ns, &zb, 1);
}

static void enqueue(struct adapter *a, const uint8_t *ip, size_t len)
{
    struct packet *p = a->queued < QUEUE_MAX ? malloc(sizeof *p + len) : NULL;

    if (!p)
        return;
    *p = (struct packet){.usecs = usecs_of(a), .len = len};
    memcpy(p->bytes, ip, len);
    *a->tail = p;
    a->tail = &p->next;
    a->queued++;
}

static void take_frame(struct adapter *a, struct zest *z, const struct zest_frame *f)
{
    uint8_t buf[FRAME_MAX];
    size_t len = 0;

    for (unsigned i = 0; i < f->n; i++) {
        assert(f->seg[i].len <= sizeof buf - len);
        memcpy(buf + len, f->seg[i].addr, f->seg[i].len);
        len += f->seg[i].len;
        zbuf_tx_done(a->pool, f->seg[i].addr);
    }
    if (len < ETH_LEN)
        return;
    if (buf[12] == 0x08 && buf[13] == 0x06)
        answer_arp(a, z, buf + ETH_LEN, len - ETH_LEN);
    else
        enqueue(a, buf + ETH_LEN, len - ETH_LEN);
}

/* Everything that there is to send now. Locked. */
static void pump(struct adapter *a, struct zest *z)
{
    struct zest_frame out[BURST];
    unsigned turns = 0;

    for (unsigned n; (n = zest_output(z, a->now_ns, out, BURST)) > 0;) {
        for (unsigned i = 0; i < n; i++)
            take_frame(a, z, &out[i]);
        assert(++turns < STUCK);
    }
}

/* ---- the driver of sockets/ */

static uint64_t driver_now_ns(void *ctx)
{
    return ((struct adapter *)ctx)->now_ns;
}

static void driver_kick(void *ctx, struct zest *z)
{
    pump(ctx, z);
}

/* ---- time */

/* The clock goes on to until_ns, or with until_packet only until a packet is out. Returns whether
 * there is one. Not locked. */
static bool pass(struct adapter *a, uint64_t for_ns, bool until_packet)
{
    uint64_t until_ns = 0;
    bool there = false, over = false;

    for (unsigned turns = 0; !over; turns++) {
        if (sockets_settle(a->s) > 0)
            (void)nanosleep(&(struct timespec){.tv_nsec = COURTESY_NS}, NULL);
        struct zest *z = sockets_lock(a->s);
        if (!until_ns)
            until_ns = a->now_ns + for_ns;
        pump(a, z);
        there = a->head != NULL;
        uint64_t next_ns = sockets_deadline(a->s);
        over = (there && until_packet) || next_ns > until_ns;
        if (next_ns > until_ns)
            next_ns = until_ns;
        if (next_ns > a->now_ns && !(there && until_packet)) {
            a->now_ns = next_ns;
            turns = 0;
        }
        pump(a, z);
        there = a->head != NULL;
        assert(turns < STUCK);
        sockets_unlock(a->s);
    }
    /* Who waited for this very time has seen it. */
    (void)sockets_settle(a->s);
    return there;
}

void adapter_sleep(struct adapter *a, uint64_t ns)
{
    (void)pass(a, ns, false);
}

int64_t adapter_usecs(struct adapter *a)
{
    (void)pass(a, 1000, false);
    sockets_lock(a->s);
    int64_t usecs = usecs_of(a);
    sockets_unlock(a->s);
    return usecs;
}

/* ---- packets */

int adapter_send(struct adapter *a, const void *packet, size_t len)
{
    if (len > a->flags.mtu || len == 0)
        return -EMSGSIZE;
    if (*(const uint8_t *)packet >> 4 != 4)
        return -ENOTSUP;
    (void)sockets_settle(a->s);
    struct zest *z = sockets_lock(a->s);
    struct zbuf *zb = frame_new(a, 0x0800, packet, len);
    if (zb) {
        zest_input(z, a->now_ns, &zb, 1);
        pump(a, z);
    }
    sockets_unlock(a->s);
    if (!zb)
        return -ENOBUFS;
    (void)sockets_settle(a->s);
    return 0;
}

int adapter_receive(struct adapter *a, void *packet, size_t *len, int64_t *usecs)
{
    (void)pass(a, a->flags.timeout_ns, true);
    sockets_lock(a->s);
    struct packet *p = a->head;
    if (p) {
        a->head = p->next;
        if (!a->head)
            a->tail = &a->head;
        a->queued--;
        *len = p->len < *len ? p->len : *len;
        memcpy(packet, p->bytes, *len);
        *usecs = p->usecs;
    } else {
        *len = 0;
        *usecs = 0;
    }
    sockets_unlock(a->s);
    free(p);
    return 0;
}

/* ---- birth and death */

struct sockets *adapter_sockets(struct adapter *a)
{
    return a->s;
}

int adapter_open(const struct adapter_flags *flags, struct adapter **out)
{
    struct adapter *a = calloc(1, sizeof *a);
    struct timespec ts;

    if (!a)
        return -ENOMEM;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    a->flags = *flags;
    a->now_ns = START_NS;
    a->start_usecs = (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
    a->tail = &a->head;
    a->pool = zbuf_pool_create(&(struct zbuf_pool_config){
        .size = POOL_BYTES, .no_huge = true, .private_stat = true, .name = "packetdrill"});
    struct sockets_config cfg = {
        .stack = {.pool = a->pool,
                  .ip = flags->local,
                  .gateway = flags->gateway,
                  .prefix_len = flags->prefix_len,
                  .mtu = flags->mtu,
                  .secret = "packetdrill"}, /* the same for each run, so that runs are the same */
        .driver = {.ctx = a, .now_ns = driver_now_ns, .kick = driver_kick},
        .first_fd = 3,
    };
    memcpy(cfg.stack.mac, MAC_LOCAL, 6);
    int err = a->pool ? sockets_open(&cfg, &a->s) : -errno;
    if (err < 0) {
        if (a->pool)
            (void)zbuf_pool_destroy(a->pool);
        free(a);
        return err;
    }
    *out = a;
    return 0;
}

void adapter_close(struct adapter *a)
{
    sockets_fini(a->s);
    while (a->head) {
        struct packet *p = a->head;
        a->head = p->next;
        free(p);
    }
    (void)zbuf_pool_destroy(a->pool);
    free(a);
}
