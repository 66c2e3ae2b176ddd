/* xdp_blob.c - the compiled XDP program, so that there is no object file to install or to find. */
#include "xdp_blob.h"

/* The Makefile says where it is; tools that only read this file need not know. */
#ifndef XDP_KERN_OBJECT
#define XDP_KERN_OBJECT "xdp_kern.bpf.o"
#endif

/* libbpf reads it as an ELF image: aligned as one. */
__asm__(".pushsection .rodata\n"
        ".balign 16\n"
        ".globl xdp_kern_object\n"
        ".hidden xdp_kern_object\n"
        ".type xdp_kern_object, @object\n"
        "xdp_kern_object:\n"
        ".incbin \"" XDP_KERN_OBJECT "\"\n"
        ".Lxdp_kern_end:\n"
        ".size xdp_kern_object, . - xdp_kern_object\n"
        ".balign 8\n"
        ".globl xdp_kern_object_size\n"
        ".hidden xdp_kern_object_size\n"
        ".type xdp_kern_object_size, @object\n"
        "xdp_kern_object_size:\n"
        ".quad .Lxdp_kern_end - xdp_kern_object\n"
        ".size xdp_kern_object_size, 8\n"
        ".popsection\n");
