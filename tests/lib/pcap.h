/* pcap.h - a capture file that tcpdump and Wireshark read, with nanoseconds. */
#ifndef PCAP_H
#define PCAP_H

#include <stdint.h>
#include <stdio.h>

static inline FILE *pcap_open(const char *path)
{
    /* magic for nanoseconds, version 2.4, zone, accuracy, snap length, Ethernet */
    static const uint32_t header[6] = {0xa1b23c4d, 2 | 4 << 16, 0, 0, 262144, 1};
    FILE *f = fopen(path, "wb");
    if (f)
        fwrite(header, sizeof header, 1, f);
    return f;
}

static inline void pcap_write(FILE *f, uint64_t now_ns, const uint8_t *frame, size_t len)
{
    uint32_t record[4] = {(uint32_t)(now_ns / 1000000000u), (uint32_t)(now_ns % 1000000000u),
                          (uint32_t)len, (uint32_t)len};
    fwrite(record, sizeof record, 1, f);
    fwrite(frame, len, 1, f);
}

#endif
