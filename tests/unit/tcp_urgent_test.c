/* tcp_urgent_test.c - urgent data, RFC 9293 3.8.5 with RFC 6093: the pointer both ways, segment by
 * segment. docs/conformance.md says which function stands for which requirement. */
#include "peer.h"

#define U WIRE_URG

static uint8_t bytes[1u << 20];

/* Urgent bytes that are still to be read. */
static uint64_t urgent(struct peer *p)
{
    struct zest_conn_info i = peer_info(p);
    return i.urgent_end > i.bytes_read ? i.urgent_end - i.bytes_read : 0;
}

/* A segment of the peer's that says: urgent up to seq + urg. */
static void send_urgent(struct peer *p, uint32_t seq, uint16_t urg, uint32_t len)
{
    struct wire w = peer_seg(p, A | U, seq, 1);
    w.urg = urg;
    w.payload = zeros;
    w.payload_len = len;
    peer_deliver(p, &w);
}

/* True if an urgent event has come since last asked. */
static bool told(struct peer *p)
{
    return peer_events(p) & ZEST_EV_URGENT;
}

/* Writes without letting the stack send yet. */
static void queue(struct peer *p, uint32_t len)
{
    CU_ASSERT_EQUAL(zest_write_copy(p->z, p->conn, bytes, len), (ssize_t)len);
}

/* ---- in */

static void the_pointer_is_after_the_last_urgent_byte(void) /* MUST-30, 62, 33 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    CU_ASSERT_EQUAL(peer_info(&p).urgent_end, 0);
    send_urgent(&p, 1, 50, 100);
    CU_ASSERT(told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 50);
    CU_ASSERT_EQUAL(peer_info(&p).urgent_end, 50);
    CU_ASSERT_EQUAL(peer_read(&p, bytes, sizeof bytes), 100); /* in line with the rest (RFC 6093) */
    CU_ASSERT_EQUAL(urgent(&p), 0);
    CU_ASSERT_EQUAL(peer_info(&p).bytes_read, 100);
    peer_close(&p);
}

static void an_advancing_pointer_is_told(void) /* MUST-32 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    send_urgent(&p, 1, 500, 100); /* ahead of its data */
    CU_ASSERT(told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 500);
    send_urgent(&p, 101, 400, 100); /* the same */
    send_urgent(&p, 201, 100, 100); /* back: it never goes back */
    CU_ASSERT(!told(&p));
    CU_ASSERT_EQUAL(peer_read(&p, bytes, sizeof bytes), 300);
    CU_ASSERT_EQUAL(urgent(&p), 200);
    send_urgent(&p, 301, 201, 0); /* one further, without text */
    CU_ASSERT(told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 201);
    peer_send(&p, A, 301, 1, zeros, 300); /* no URG: the end stays where it is */
    CU_ASSERT(!told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 201);
    CU_ASSERT_EQUAL(peer_read(&p, bytes, sizeof bytes), 300);
    send_urgent(&p, 601, 0, 100); /* nothing that has not been read */
    CU_ASSERT(!told(&p));
    send_urgent(&p, 701, 1, 1); /* none was pending any more */
    CU_ASSERT(told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 102 - 1);
    peer_close(&p);
}

/* A pointer that comes early, or in what is repeated, counts from its own segment. */
static void pointers_out_of_order(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    send_urgent(&p, 1001, 10, 100);
    CU_ASSERT(told(&p));
    CU_ASSERT_EQUAL(peer_info(&p).urgent_end, 1010);
    send_urgent(&p, 1, 20, 1000);
    CU_ASSERT(!told(&p));
    CU_ASSERT_EQUAL(peer_info(&p).urgent_end, 1010);
    send_urgent(&p, 1051, 100, 100); /* half of it is old */
    CU_ASSERT(told(&p));
    CU_ASSERT_EQUAL(peer_info(&p).urgent_end, 1150);
    CU_ASSERT_EQUAL(peer_read(&p, bytes, sizeof bytes), 1150);
    peer_close(&p);
}

static void urgent_data_of_any_length_arrives(void) /* MUST-31 */
{
    struct peer p;
    uint32_t at = 1, end = 300001;

    peer_open(&p, NULL);
    peer_establish(&p);
    for (; at < end; at += 1000) { /* further ahead than the field can say, until it is not */
        uint32_t ahead = end - at;
        send_urgent(&p, at, (uint16_t)(ahead < 65535 ? ahead : 65535), 1000);
        CU_ASSERT_EQUAL(told(&p), at == 1 || ahead >= 65535 || ahead > 64535);
        CU_ASSERT_EQUAL(peer_info(&p).urgent_end, (ahead < 65535 ? end : at + 65535) - 1);
        CU_ASSERT_EQUAL(peer_read(&p, bytes, sizeof bytes), 1000);
    }
    CU_ASSERT_EQUAL(urgent(&p), 0);
    CU_ASSERT_EQUAL(peer_info(&p).urgent_end, 300000);
    peer_close(&p);
}

static void a_closed_window_hears_urgent(void) /* MUST-66 */
{
    struct peer p;

    peer_open(&p, &(struct zest_config){.rcv_buf = 2000});
    peer_establish(&p);
    peer_send(&p, A, 1, 1, zeros, 1000);
    peer_send(&p, A, 1001, 1, zeros, 1000);
    CU_ASSERT_EQUAL(peer_info(&p).rcv_wnd, 0);
    send_urgent(&p, 2001, 700, 0);
    CU_ASSERT(told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 2700);
    send_urgent(&p, 2001, 701, 1); /* a probe: its text is refused, its pointer is not */
    CU_ASSERT(told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 2701);
    CU_ASSERT_EQUAL(peer_info(&p).rcv_queued, 2000);
    peer_close(&p);
}

static void urgent_before_accept_and_after_fin(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    peer_send(&p, S, 0, 0, NULL, 0);
    peer_send(&p, A, 1, 1, NULL, 0);
    send_urgent(&p, 1, 1000, 10); /* nobody to tell yet */
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    CU_ASSERT(told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 1000);
    peer_send(&p, A | F, 11, 1, "ab", 2);
    CU_ASSERT_EQUAL(urgent(&p), 12); /* it promised more than came */
    send_urgent(&p, 14, 5, 0);
    CU_ASSERT(!told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 12);
    CU_ASSERT_EQUAL(peer_read(&p, bytes, sizeof bytes), 12);
    CU_ASSERT_EQUAL(urgent(&p), 0);
    peer_close(&p);
}

/* SYN-SENT goes on at the sixth step (3.10.7.3); elsewhere no state is harmed by the flag. */
static void urgent_in_every_state(void)
{
    struct peer p;
    struct zest_addr a;

    peer_open(&p, NULL);
    zest_addr_parse(&a, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL_FATAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
    peer_flush(&p);
    struct wire w = peer_seg(&p, S | A | U, 0, 1);
    w.urg = 101; /* the SYN has a number, too */
    peer_deliver(&p, &w);
    CU_ASSERT_EQUAL(peer_events(&p) & (ZEST_EV_CONNECTED | ZEST_EV_URGENT),
                    ZEST_EV_CONNECTED | ZEST_EV_URGENT);
    CU_ASSERT_EQUAL(urgent(&p), 100);
    zest_shutdown(p.z, p.conn);
    peer_flush(&p);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_FIN_WAIT_1);
    send_urgent(&p, 1, 200, 0);
    CU_ASSERT(told(&p));
    peer_send(&p, A, 1, 2, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_FIN_WAIT_2);
    w = peer_seg(&p, A | U, 1, 2);
    w.urg = 300;
    peer_deliver(&p, &w);
    CU_ASSERT(told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 300);
    peer_send(&p, A | F, 1, 2, NULL, 0);
    CU_ASSERT_EQUAL(peer_state(&p), ZEST_TIME_WAIT);
    peer_events(&p);
    w = peer_seg(&p, A | U, 2, 2);
    w.urg = 400;
    peer_deliver(&p, &w);
    CU_ASSERT(!told(&p));
    CU_ASSERT_EQUAL(urgent(&p), 0);
    peer_close(&p);
}

/* ---- out */

static void what_is_written_is_marked(void) /* MUST-30, 62 */
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    queue(&p, 100);
    CU_ASSERT_EQUAL(zest_urgent(p.z, p.conn), 0);
    queue(&p, 50); /* not urgent, in the same segment */
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.n, 1);
    EXPECT_SEG(&p, 0, A | U, 1, 1, 150);
    CU_ASSERT_EQUAL(p.out[0].urg, 100);
    peer_wait(&p, 1000 * MS); /* repeated: again */
    EXPECT_SEG(&p, 0, A | U, 1, 1, 150);
    CU_ASSERT_EQUAL(p.out[0].urg, 100);
    peer_send(&p, A, 1, 101, NULL, 0);
    peer_write(&p, 10);
    for (unsigned i = 0; i < p.n; i++) {
        CU_ASSERT_EQUAL(p.out[i].flags & U, 0);
        CU_ASSERT_EQUAL(p.out[i].urg, 0);
    }
    peer_close(&p);
}

static void nothing_to_mark(void)
{
    struct peer p;
    zest_handle h;

    peer_open(&p, NULL);
    peer_establish(&p);
    h = p.conn;
    CU_ASSERT_EQUAL(zest_urgent(p.z, 12345), -EBADF);
    CU_ASSERT_EQUAL(zest_urgent(p.z, p.conn), -EINVAL); /* no byte could carry it */
    peer_write(&p, 100);
    CU_ASSERT_EQUAL(zest_urgent(p.z, p.conn), -EINVAL); /* all has been sent */
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.n, 0);
    zest_shutdown(p.z, p.conn);
    CU_ASSERT_EQUAL(zest_urgent(p.z, p.conn), -EPIPE);
    zest_abort(p.z, h);
    CU_ASSERT_EQUAL(zest_urgent(p.z, h), -EBADF);
    peer_close(&p);
}

/* Neither Nagle's algorithm nor a cork. */
static void urgent_data_does_not_wait(void)
{
    struct peer p;

    for (unsigned cork = 0; cork < 2; cork++) {
        peer_open(&p, NULL);
        peer_establish(&p);
        zest_set_option(p.z, p.conn, ZEST_OPT_CORK, cork);
        queue(&p, 50);
        peer_flush(&p);
        CU_ASSERT_EQUAL(p.n, !cork);
        queue(&p, 5);
        peer_flush(&p);
        CU_ASSERT_EQUAL(p.n, 0);
        queue(&p, 6);
        CU_ASSERT_EQUAL(zest_urgent(p.z, p.conn), 0);
        peer_flush(&p);
        CU_ASSERT_EQUAL(p.n, 1);
        EXPECT_SEG(&p, 0, A | U, cork ? 1 : 51, 1, cork ? 61 : 11);
        CU_ASSERT_EQUAL(p.out[0].urg, p.out[0].payload_len);
        queue(&p, 10); /* behind it all is as before */
        peer_flush(&p);
        CU_ASSERT_EQUAL(p.n, 0);
        peer_close(&p);
    }
}

/* The peer hears of it at once, though no byte may go; and again with each probe. */
static void a_closed_window_is_told(void)
{
    struct peer p;

    peer_open(&p, NULL);
    peer_establish(&p);
    p.wnd = 0;
    peer_send(&p, A, 1, 1, NULL, 0);
    queue(&p, 5000);
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.n, 0);
    queue(&p, 1);
    CU_ASSERT_EQUAL(zest_urgent(p.z, p.conn), 0);
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.n, 1);
    EXPECT_SEG(&p, 0, A | U, 1, 1, 0);
    CU_ASSERT_EQUAL(p.out[0].urg, 5001);
    peer_flush(&p);
    CU_ASSERT_EQUAL(p.n, 0); /* once */
    peer_wait(&p, 1500 * MS);
    EXPECT_SEG(&p, 0, A | U, 1, 1, 1);
    CU_ASSERT_EQUAL(p.out[0].urg, 5001);
    peer_close(&p);
}

static void urgent_data_of_any_length_is_sent(void) /* MUST-31 */
{
    struct peer p;
    uint32_t end = 400001, una = 1;

    peer_open(&p, NULL);
    peer_establish(&p);
    queue(&p, end - 1);
    CU_ASSERT_EQUAL(zest_urgent(p.z, p.conn), 0);
    queue(&p, 1000);
    peer_flush(&p);
    for (unsigned turns = 0; una < end + 1000 && turns < 1000; turns++) {
        for (unsigned i = 0; i < p.n; i++) {
            uint32_t seq = p.out[i].seq - p.irs, ahead = end - seq;
            CU_ASSERT_EQUAL(seq, una);
            una += p.out[i].payload_len;
            CU_ASSERT_EQUAL(p.out[i].flags & U, seq < end ? U : 0);
            CU_ASSERT_EQUAL(p.out[i].urg, seq >= end ? 0 : ahead < 65535 ? ahead : 65535);
        }
        peer_send(&p, A, 1, una, NULL, 0);
    }
    CU_ASSERT_EQUAL(una, end + 1000);
    peer_close(&p);
}

/* What the field can't reach is not promised within what has been sent: there, the byte before the
 * pointer is taken for an urgent one by many. */
static void a_clamped_pointer_is_ahead_of_all(void)
{
    struct peer p;
    uint32_t sent = 0;

    peer_open(&p, NULL);
    peer_listen(&p, 80);
    struct wire syn = peer_seg(&p, S, 0, 0);
    syn.opt.has_mss = syn.opt.has_wscale = true;
    syn.opt.mss = 1460;
    syn.opt.wscale = 4;
    peer_deliver(&p, &syn);
    peer_send(&p, A, 1, 1, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p.z, p.listener, &p.conn, NULL), 0);
    queue(&p, 500000);
    CU_ASSERT_EQUAL(zest_urgent(p.z, p.conn), 0);
    peer_flush(&p);
    for (unsigned turns = 0; turns < 100 && peer_info(&p).cwnd < 150000; turns++) {
        for (unsigned i = 0; i < p.n; i++)
            sent = p.out[i].seq - p.irs + p.out[i].payload_len;
        peer_send(&p, A, 1, sent, NULL, 0);
    }
    uint32_t una = sent;
    for (unsigned i = 0; i < p.n; i++)
        sent = p.out[i].seq - p.irs + p.out[i].payload_len;
    CU_ASSERT(sent - una > 70000 && sent < 500000);
    peer_wait(&p, 1500 * MS);
    EXPECT_SEG(&p, 0, A, una, 1, MSS);
    CU_ASSERT_EQUAL(p.out[0].urg, 0);
    peer_close(&p);
}

/* It waits for the connection: a SYN says nothing of it. */
static void written_before_the_handshake(void)
{
    struct peer p;
    struct zest_addr a;

    peer_open(&p, NULL);
    zest_addr_parse(&a, "10.0.0.2", p.port);
    CU_ASSERT_EQUAL_FATAL(zest_connect(p.z, &a, NULL, &p.conn), 0);
    CU_ASSERT_EQUAL(zest_urgent(p.z, p.conn), -EINVAL);
    queue(&p, 10);
    CU_ASSERT_EQUAL(zest_urgent(p.z, p.conn), 0);
    peer_flush(&p);
    EXPECT_SEG(&p, 0, S, 0, 0, 0);
    CU_ASSERT_EQUAL(p.out[0].urg, 0);
    struct wire w = peer_seg(&p, S | A, 0, 1);
    peer_deliver(&p, &w);
    EXPECT_SEG(&p, 0, A | U, 1, 1, 10);
    CU_ASSERT_EQUAL(p.out[0].urg, 10);
    peer_close(&p);
}

CHECK_MAIN("tcp urgent", CHECK(the_pointer_is_after_the_last_urgent_byte),
           CHECK(an_advancing_pointer_is_told), CHECK(pointers_out_of_order),
           CHECK(urgent_data_of_any_length_arrives), CHECK(a_closed_window_hears_urgent),
           CHECK(urgent_before_accept_and_after_fin), CHECK(urgent_in_every_state),
           CHECK(what_is_written_is_marked), CHECK(nothing_to_mark),
           CHECK(urgent_data_does_not_wait), CHECK(a_closed_window_is_told),
           CHECK(urgent_data_of_any_length_is_sent), CHECK(a_clamped_pointer_is_ahead_of_all),
           CHECK(written_before_the_handshake))
