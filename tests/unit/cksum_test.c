/* The Internet checksum: against RFC 1071's example and against a sum made two bytes at a time. */
#include "stack_fixture.h"

/* What RFC 1071 section 1 says, literally. */
static uint16_t reference(const uint8_t *p, size_t len)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static uint16_t folded(uint64_t sum)
{
    uint16_t v = cksum_fold_raw(sum);
    return be16_get(&v);
}

static uint8_t data[70000], copy[70000];

/* 0: random bytes, 1: all ones, so that every addition carries; 2: zeros but the last */
static void fill(unsigned kind, size_t len)
{
    srand(1);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = kind == 0 ? (uint8_t)rand() : kind == 1 ? 0xff : (uint8_t)(i + 1 == len);
}

static void rfc1071_example(void)
{
    static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    CU_ASSERT_EQUAL(folded(cksum_add(0, bytes, sizeof bytes)), 0xddf2);
}

/* Every length up to a frame, from every alignment; what lies around must not be read in. */
static void every_length_and_alignment(void)
{
    unsigned wrong = 0;
    for (unsigned kind = 0; kind < 2; kind++) {
        fill(kind, 0);
        for (size_t len = 0; len <= 1600; len++)
            for (size_t at = 0; at < 9; at++)
                wrong += folded(cksum_add(0, data + at, len)) != reference(data + at, len);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void long_ones(void)
{
    fill(1, 0);
    CU_ASSERT_EQUAL(folded(cksum_add(0, data, 65535)), reference(data, 65535));
    fill(2, 65536);
    CU_ASSERT_EQUAL(folded(cksum_add(0, data, 65536)), reference(data, 65536));
}

/* The running sum comes in at its fullest. */
static void carries_into_the_sum(void)
{
    unsigned wrong = 0;
    fill(0, 0);
    for (size_t len = 0; len <= 300; len++) {
        uint64_t sum = cksum_add(UINT64_MAX - 2, data, len);
        /* 2^64 - 3 is 0xfffd modulo 0xffff */
        uint16_t expect =
            cksum_fold_raw((uint64_t)0xfffd + cksum_fold_raw(cksum_add(0, data, len)));
        wrong += cksum_fold_raw(sum) % 0xffff != expect % 0xffff;
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void copies_what_it_sums(void)
{
    unsigned wrong = 0;
    fill(0, 0);
    for (size_t len = 0; len <= 1600; len++) {
        for (size_t at = 0; at < 3; at++) {
            memset(copy, 0xaa, len + 16);
            uint64_t sum = cksum_copy(7, copy + 8 - at, data + at, len);
            wrong += folded(sum) != folded(cksum_add(7, data + at, len));
            wrong += memcmp(copy + 8 - at, data + at, len) != 0;
            wrong += copy[8 - at + len] != 0xaa || copy[7 - at] != 0xaa;
        }
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

/* A segment is summed in pieces of even length. */
static void pieces_add_up(void)
{
    fill(0, 0);
    uint64_t sum = 0;
    size_t at = 0;
    for (size_t n = 2; at + n < 6000; at += n, n += 26)
        sum = cksum_add(sum, data + at, n);
    CU_ASSERT_EQUAL(folded(sum), reference(data, at));
}

static void pseudo_header_v4(void)
{
    static const uint8_t literal[] = {10, 0, 0, 1, 192, 168, 7, 9, 0, 6, 5, 220};
    struct ipaddr a = ipaddr_from_v4(IP(10, 0, 0, 1)), b = ipaddr_from_v4(IP(192, 168, 7, 9));
    CU_ASSERT_EQUAL(folded(cksum_pseudo(&a, &b, 6, 1500)), reference(literal, sizeof literal));
}

/* RFC 8200 8.1 */
static void pseudo_header_v6(void)
{
    uint8_t literal[40];
    struct ipaddr a, b;
    for (uint8_t i = 0; i < 40; i++)
        literal[i] = (uint8_t)(i * 37 + 11);
    memcpy(a.b, literal, 16);
    memcpy(b.b, literal + 16, 16);
    be32_put(literal + 32, 70000);
    be32_put(literal + 36, 6);
    CU_ASSERT_EQUAL(folded(cksum_pseudo(&a, &b, 6, 70000)), reference(literal, sizeof literal));
}

static void fold_of_extremes(void)
{
    CU_ASSERT_EQUAL(cksum_fold_raw(0), 0);
    CU_ASSERT_EQUAL(cksum_fold_raw(UINT64_MAX), 0xffff);
    CU_ASSERT_EQUAL(cksum_fold_raw(0xffffffff00000000ull), 0xffff);
    CU_ASSERT_EQUAL(cksum_fold_raw(0x0001ffffffffffffull), 1);
    CU_ASSERT_EQUAL(cksum_fold(0), 0xffff);
    CU_ASSERT_EQUAL(cksum_plus(UINT64_MAX, 1), 1);
}

CHECK_MAIN("cksum", CHECK(rfc1071_example), CHECK(every_length_and_alignment), CHECK(long_ones),
           CHECK(carries_into_the_sum), CHECK(copies_what_it_sums), CHECK(pieces_add_up),
           CHECK(pseudo_header_v4), CHECK(pseudo_header_v6), CHECK(fold_of_extremes))
