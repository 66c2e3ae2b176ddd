/* play.h - between run.c and calls.c. */
#ifndef PLAY_H
#define PLAY_H

#include "script.h"

#define PLAY_LOCAL_IP   0xc0a80001u /* 192.168.0.1 */
#define PLAY_GATEWAY_IP 0xc0a80002u
#define PLAY_REMOTE_IP  0xc0000201u /* 192.0.2.1 */
#define PLAY_PORT       8080u
#define PLAY_BLOCKED    0x80000000u

/* Byte `at` of either stream. */
uint8_t play_byte(uint64_t at);
/* Keeps the first reason; returns false. */
bool play_fail(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
