/* tcp_mem_window_test.c - what a receive window offers is what there is memory for. */
#include "mem_fixture.h"

/* What the peer may send it can send: the application has taken all that is not set aside, and the
 * window is what is left of that, not what ceilings would allow. */
static void a_window_is_no_larger_than_what_is_there(void)
{
    struct peer p;
    struct zbuf_budget_stat received = {0};
    open_mem(&p, NULL);
    peer_establish(&p);
    CU_ASSERT(info_of(&p, p.conn).rcv_wnd > 60000);
    flood_pool(&p);
    peer_wait(&p, 10 * MS);
    CU_ASSERT_FATAL(budget_of(&p, "received", &received));
    zest_handle late = another(&p);
    uint32_t wnd = info_of(&p, late).rcv_wnd, seq = 1;
    CU_ASSERT(wnd >= TEXT && wnd <= received.min / 2);
    for (unsigned i = 0; i < 100 && wnd > 0; i++) { /* nobody reads */
        uint32_t len = wnd < TEXT ? wnd : TEXT;
        peer_send(&p, A, seq, 1, text, len);
        seq += len;
        wnd = info_of(&p, late).rcv_wnd;
    }
    CU_ASSERT_EQUAL(wnd, 0);
    CU_ASSERT(seq > 2 * TEXT);
    CU_ASSERT_EQUAL(info_of(&p, late).rcv_queued, seq - 1);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_no_memory, 0);

    /* It follows upwards, too. */
    flood_ends();
    release_all(&p, late);
    peer_flush(&p);
    for (unsigned i = 0; i < 3; i++, seq += 100) {
        peer_wait(&p, 50 * MS);
        peer_send(&p, A, seq, 1, text, 100);
        release_all(&p, late);
    }
    CU_ASSERT(info_of(&p, late).rcv_wnd > 60000);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_no_memory, 0);
    peer_close(&p);
}

/* One answer: it has so much, and its window is open, or not. */
static void answered(const struct peer *p, uint32_t ack, bool open)
{
    CU_ASSERT_EQUAL_FATAL(p->n, 1);
    CU_ASSERT_EQUAL(p->out[0].ack, p->iss + ack);
    CU_ASSERT_EQUAL(p->out[0].wnd > 0, open);
}

/* The window had been offered before. That there is no memory now, though ceilings would allow it,
 * is told each time that the peer asks, and that there is some again, too. */
static void what_the_pool_refuses_closes_the_window(void)
{
    struct peer p;
    uint32_t seq = 1;
    open_mem(&p, &(struct zest_config){.conn_mem_min = ZEST_MEM_NONE});
    peer_establish(&p);
    flood_pool(&p);
    fill(&p, &seq);
    answered(&p, seq, false);
    for (unsigned i = 0; i < 3; i++) {
        peer_send(&p, A, seq, 1, text, TEXT);
        answered(&p, seq, false);
    }
    /* Nor is there a segment for one that holds none. */
    struct end full = end_of(&p);
    another(&p);
    peer_send(&p, A, 1, 1, text, TEXT);
    answered(&p, 1, false);
    flood_ends();
    peer_send(&p, A, 1, 1, text, TEXT);
    answered(&p, 1 + TEXT, true);
    speak_for(&p, full);
    peer_send(&p, A, seq, 1, text, TEXT);
    answered(&p, seq + TEXT, true);
    peer_close(&p);
}

/* Whoever holds nothing is offered a frame's text, and has one segment for it. The peer may cut it
 * as it likes. */
static void a_frames_text_fits_however_it_is_cut(void)
{
    struct peer p;
    uint32_t seq = 1;
    open_mem(&p, NULL);
    peer_establish(&p);
    struct end end = end_of(&p);
    zest_handle reads = another(&p);
    struct end other = end_of(&p);
    flood_pool(&p);
    speak_for(&p, end);
    fill(&p, &seq);
    speak_for(&p, other);
    uint64_t dropped = peer_stats(&p).drop_tcp_no_memory;
    peer_send(&p, A, 1, 1, text, 700);
    peer_send(&p, A, 701, 1, text + 700, 700);
    CU_ASSERT_EQUAL(info_of(&p, reads).rcv_queued, 1400);
    CU_ASSERT_EQUAL(info_of(&p, reads).mem_held, SEG);
    CU_ASSERT_EQUAL(peer_stats(&p).drop_tcp_no_memory, dropped);
    flood_ends();
    peer_close(&p);
}

CHECK_MAIN("tcp mem window", CHECK(a_window_is_no_larger_than_what_is_there),
           CHECK(what_the_pool_refuses_closes_the_window),
           CHECK(a_frames_text_fits_however_it_is_cut))
