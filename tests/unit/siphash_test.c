/* SipHash-2-4 against its authors' test vectors: key 00..0f, message 00 01 02 ... */
#include "check.h"
#include "stack/siphash.h"

static uint8_t key[16], message[64];

static void counting(void)
{
    for (uint8_t i = 0; i < 64; i++)
        message[i] = i;
    memcpy(key, message, 16);
}

static void published_vectors(void)
{
    counting();
    CU_ASSERT_EQUAL(siphash(key, message, 0), 0x726fdb47dd0e0e31ull);
    CU_ASSERT_EQUAL(siphash(key, message, 1), 0x74f839c593dc67fdull);
    CU_ASSERT_EQUAL(siphash(key, message, 7), 0xab0200f58b01d137ull);
    CU_ASSERT_EQUAL(siphash(key, message, 8), 0x93f5f5799a932462ull);
    CU_ASSERT_EQUAL(siphash(key, message, 15), 0xa129ca6149be45e5ull); /* the paper's own */
    CU_ASSERT_EQUAL(siphash(key, message, 63), 0x958a324ceb064572ull);
}

/* Each bit of key, message and length matters, at any alignment. */
static void every_bit_counts(void)
{
    counting();
    uint64_t base = siphash(key, message, 40);
    for (unsigned i = 0; i < 16 * 8; i++) {
        key[i / 8] ^= (uint8_t)(1u << i % 8);
        CU_ASSERT_NOT_EQUAL(siphash(key, message, 40), base);
        key[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    for (unsigned i = 0; i < 40 * 8; i++) {
        message[i / 8] ^= (uint8_t)(1u << i % 8);
        CU_ASSERT_NOT_EQUAL(siphash(key, message, 40), base);
        message[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    uint8_t zeros[16] = {0};
    CU_ASSERT_NOT_EQUAL(siphash(key, zeros, 8), siphash(key, zeros, 9));
    uint8_t moved[65];
    memcpy(moved + 1, message, 64);
    CU_ASSERT_EQUAL(siphash(key, moved + 1, 40), base);
}

CHECK_MAIN("siphash", CHECK(published_vectors), CHECK(every_bit_counts))
