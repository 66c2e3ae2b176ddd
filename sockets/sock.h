/* sock.h - what the files of sockets/ share. Everything here is called with the instance locked. */
#ifndef SOCK_H
#define SOCK_H

#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "sockets.h"

#define NS_PER_S         1000000000ull
#define NS_PER_MS        1000000ull
#define SOCK_VIEWS       16u /* room for received segments half read or peeked at, to begin with */
#define SOCK_RETRY_NS    (10 * NS_PER_MS) /* a write that found no memory tries again after that */
#define SOCK_PORT_FIRST  32768u           /* of those that bind() picks */
#define SOCK_PORT_COUNT  28232u
#define SOCK_BACKLOG_MAX 4096
#define SOCK_SNDBUF_MIN  4608u /* as getsockopt() shows it: twice what is usable, as on Linux */
#define SOCK_RCVBUF_MIN  4096u
#define SOCK_BUF_MAX     (1u << 30)

enum sock_kind {
    SOCK_FRESH, /* not connected: never, or not any more (see dead) */
    SOCK_LISTENER,
    SOCK_CONNECTING, /* a SYN is out */
    SOCK_CONNECTED,
    SOCK_EPOLL
};

/* What setsockopt() said; what has been said before there is a connection is told to it then. */
struct sock_options {
    bool reuse_addr, keepalive, nodelay, cork, oob_inline;
    bool linger;
    uint32_t linger_s;
    uint32_t keep_idle_s, keep_intvl_s, keep_cnt; /* 0: the default */
    uint32_t user_timeout_ms;
    uint32_t snd_buf, rcv_buf;               /* as getsockopt() shows them; 0: the stack's own */
    uint64_t rcv_timeout_ns, snd_timeout_ns; /* 0: none */
};

/* An open file description: what descriptors, and calls that are under way, refer to. */
struct sock {
    enum sock_kind kind;
    int refs;
    int domain;
    bool nonblock;
    zest_handle handle;     /* of a listener or a connection, also of one that has ended; 0: none */
    struct zest_addr local; /* port 0: not bound */
    struct zest_addr remote;
    struct sock_options opt;
    int error;        /* to be told once: a positive errno */
    bool in_progress; /* connect() has not answered yet */
    bool dead;        /* the connection has ended */
    bool acceptable;  /* a listener has a connection, most likely */
    bool readable;    /* bytes have come since zest_read() last found none */
    bool eof;         /* the peer's FIN is in */
    bool full;        /* the last write took less than all */
    bool starved;     /* because memory was short: tried again after a while */
    bool shut_rd, shut_wr;
    bool more;              /* MSG_MORE holds a partial segment back */
    uint32_t edges;         /* counts what could interest EPOLLET */
    struct zest_view *view; /* received and not yet read: a ring's worth, grown as needed */
    unsigned views, view_first, view_room;
    uint32_t view_off; /* read of the first of them */
    uint64_t at;       /* place in the stream where the program reads, from 0 */
    uint64_t mark;     /* of the urgent byte, see urgent.c */
    enum { OOB_NONE, OOB_PENDING, OOB_READ } oob;
    pid_t owner;              /* F_SETOWN: who gets SIGURG; 0: nobody */
    struct sock *next, *prev; /* all of an instance */
    struct epoll_item *items; /* EPOLL: what it watches; else: who watches it */
};

struct epoll_item {
    struct sock *ep, *sock;
    int fd;
    struct epoll_event event;
    uint32_t seen_edges;
    bool armed; /* false: EPOLLONESHOT has fired */
    struct epoll_item *ep_next, *sock_next;
};

struct fd_slot {
    struct sock *sock;
    int flags; /* FD_CLOEXEC */
};

/* A call that waits. */
struct waiter {
    struct waiter *next, *prev;
    uint64_t until_ns;
    uint64_t seen; /* state of the instance that it has looked at */
    bool slept;
};

struct sockets {
    struct sockets_config cfg;
    struct zest *z;
    void *mem;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* seq has grown */
    pthread_cond_t settled; /* a waiter has looked, or left */
    uint64_t seq;           /* state of everything that calls wait for */
    uint64_t told_ns;       /* deadline as the driver knows it */
    uint64_t starved_ns;    /* when starved sockets are to try again */
    struct waiter *waiters;
    unsigned calls;     /* under way */
    bool stopping;      /* calls that wait fail */
    unsigned ended;     /* calls that slept and have returned, for sockets_settle() */
    unsigned lingering; /* calls that wait for what makes no event */
    struct fd_slot *fds;
    struct sock *socks;
    uint32_t next_port;
};

/* instance.c */
void call_begin(struct sockets *s);
/* Lets the driver and others know what a call changed. Returns ret. */
ssize_t call_end(struct sockets *s, ssize_t ret);
void wait_begin(struct sockets *s, struct waiter *w, uint64_t until_ns);
/* Until something happens. 0: look again; -EAGAIN: it is past until_ns; or what the driver says. */
int wait_more(struct sockets *s, struct waiter *w);
void wait_end(struct sockets *s, struct waiter *w);
void take_events(struct sockets *s);
void changed(struct sockets *s); /* wakes every call that waits */
uint64_t now_ns(const struct sockets *s);
/* A time-out to a time; 0 is none. */
uint64_t until_after(const struct sockets *s, uint64_t timeout_ns);
uint64_t until_ms(const struct sockets *s, int timeout_ms); /* negative: none */
void starve(struct sockets *s, struct sock *k);

/* fd.c */
struct sock *sock_new(struct sockets *s, enum sock_kind kind, int domain);
/* The lowest free descriptor from `from` on, for k (whose reference it takes over). */
int fd_install(struct sockets *s, struct sock *k, int from, int fd_flags);
/* NULL: no such descriptor. */
struct fd_slot *fd_slot(struct sockets *s, int fd);
/* Takes a reference for the time of a call, *err is -EBADF or -ENOTSOCK. */
struct sock *sock_get(struct sockets *s, int fd, int *err);
void sock_put(struct sockets *s, struct sock *k);

/* addr.c */
int addr_from_sockaddr(struct zest_addr *out, int domain, const struct sockaddr *sa, socklen_t len);
void addr_to_sockaddr(const struct zest_addr *a, int domain, struct sockaddr *sa, socklen_t *len);

/* io.c */
/* Byte `off` from where the program reads on, if it has arrived. */
bool peek_byte(struct sockets *s, struct sock *k, uint64_t off, uint8_t *byte);
uint64_t unread_bytes(struct sockets *s, const struct sock *k); /* that have arrived */
/* Passes over up to n bytes. */
size_t read_drop(struct sockets *s, struct sock *k, size_t n);

/* urgent.c */
void urgent_heard(struct sockets *s, struct sock *k); /* ZEST_EV_URGENT */
/* Bytes to leave out where the program reads: 1 or 0. */
size_t urgent_skip(const struct sock *k);
/* How far one read may go. */
size_t urgent_limit(const struct sock *k);
void urgent_passed(struct sock *k); /* `at` has grown */
bool urgent_at_mark(const struct sock *k);
bool urgent_pending(struct sockets *s, const struct sock *k); /* POLLPRI */
/* recv(MSG_OOB): 1, 0 at the end of the stream, -EINVAL, -EAGAIN. */
ssize_t urgent_recv(struct sockets *s, struct sock *k, int flags, uint8_t *byte);

/* conn.c */
/* A wait for connect() to end, by whichever call. 0 or -errno. */
int connect_wait(struct sockets *s, struct sock *k, bool nonblock, uint64_t timeout_ns);
int take_error(struct sock *k);
void drop_views(struct sockets *s, struct sock *k);
/* Lets go of the connection or listener: as close() does, or with a RST. */
void let_go(struct sockets *s, struct sock *k, bool abort);

/* option.c */
/* Tells k's connection or listener all that was set. */
void options_apply(struct sockets *s, struct sock *k);

/* info.c */
int tcp_info(struct sockets *s, struct sock *k, void *value, socklen_t *len);

/* poll.c */
uint32_t sock_mask(struct sockets *s, struct sock *k); /* POLL bits */
/* epoll.c */
bool epoll_ready(struct sockets *s, struct sock *ep);
void epoll_forget(struct sock *k); /* k is going, be it watched or watching */
void epoll_forget_fd(struct sock *k, int fd);

#endif
