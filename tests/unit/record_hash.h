/* record_hash.h - what came out of the two stacks of one_hash_everywhere() in record_test.c: the
 * same on every machine, with every compiler. A change of the stack that alters it on purpose puts
 * here what the test prints; any other has to find out why. */
#define RECORD_HASH_A 0xbf43746cf0f1c211ull
#define RECORD_HASH_B 0x66b005b0bd3714b2ull
