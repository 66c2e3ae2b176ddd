/* Addresses to text and back. */
#include <errno.h>

#include "check.h"
#include "stack/zest.h"

static void round_trip(const char *in, uint16_t port, const char *out)
{
    struct zest_addr a;
    char buf[ZEST_ADDR_TEXT];
    CU_ASSERT_EQUAL(zest_addr_parse(&a, in, port), 0);
    CU_ASSERT_STRING_EQUAL(zest_addr_text(&a, buf), out);
}

static void reads_what_it_writes(void)
{
    round_trip("10.0.0.1", 0, "10.0.0.1");
    round_trip("10.0.0.1", 80, "10.0.0.1:80");
    round_trip("10.0.0.1:65535", 80, "10.0.0.1:65535"); /* the text's port wins */
    round_trip("[::ffff:10.0.0.1]:81", 80, "10.0.0.1:81");
    round_trip("[::ffff:10.0.0.1]", 80, "10.0.0.1:80");
    round_trip("::ffff:10.0.0.1", 0, "10.0.0.1");
    round_trip("255.255.255.255:1", 0, "255.255.255.255:1");
    round_trip("0.0.0.0", 7, "0.0.0.0:7");
    round_trip("[fe80::1]:9", 0, "[fe80::1]:9");
    round_trip("::1", 0, "::1");
    round_trip("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", 0,
               "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

static void bytes_are_in_network_order(void)
{
    static const uint8_t expect[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3};
    struct zest_addr a;
    CU_ASSERT_EQUAL(zest_addr_parse(&a, "10.1.2.3:258", 0), 0);
    CU_ASSERT_EQUAL(memcmp(a.ip, expect, 16), 0);
    CU_ASSERT_EQUAL(a.port, 258);
}

/* Refused whole, and the result left as it was. */
static void refuses_what_is_not_an_address(void)
{
    static const char *const bad[] = {
        "",
        "10.0.0",
        "10.0.0.1.2",
        "10.0.0.256",
        "10.0.0.1 ",
        " 10.0.0.1",
        "10.0.0.1x",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:4294967376",
        "10.0.0.1:-1",
        "10.0.0.1:8x",
        "10.0.0.1:+8",
        "localhost",
        "[::1",
        "[::1]x",
        "[::1]:",
        "::1]",
        "[]",
        ":80",
        "12345:::",
        "1111111111111111111111111111111111111111111111111111111111111"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct zest_addr a, before;
        memset(&a, 0x5a, sizeof a);
        before = a;
        if (zest_addr_parse(&a, bad[i], 80) != -EINVAL)
            CU_FAIL("accepted");
        CU_ASSERT_EQUAL(memcmp(&a, &before, sizeof a), 0);
    }
    struct zest_addr a;
    CU_ASSERT_EQUAL(zest_addr_parse(&a, NULL, 0), -EINVAL);
    CU_ASSERT_EQUAL(zest_addr_parse(NULL, "10.0.0.1", 0), -EINVAL);
}

CHECK_MAIN("addr", CHECK(reads_what_it_writes), CHECK(bytes_are_in_network_order),
           CHECK(refuses_what_is_not_an_address))
