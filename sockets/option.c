/* option.c - setsockopt and getsockopt. What is said before there is a connection is kept, and told
 * to the stack then. Buffer sizes are shown as Linux shows them, twice what was asked for. */
#include <linux/tcp.h>
#include <sys/time.h>

#include "sock.h"

#define KEEP_IDLE_S  7200u
#define KEEP_INTVL_S 75u
#define KEEP_CNT     9u
#define BUF_DEFAULT  (1u << 20)
#define MSS_DEFAULT  536 /* of a socket that has no peer yet */

static int tell(struct sockets *s, struct sock *k, enum zest_option opt, uint32_t value)
{
    return k->handle ? zest_set_option(s->z, k->handle, opt, value) : 0;
}

static uint32_t or_default(uint32_t value, uint32_t dflt)
{
    return value ? value : dflt;
}

static int tell_keepalive(struct sockets *s, struct sock *k)
{
    uint32_t idle_s = or_default(k->opt.keep_idle_s, KEEP_IDLE_S);

    return tell(s, k, ZEST_OPT_KEEPALIVE, k->opt.keepalive ? idle_s : 0);
}

void options_apply(struct sockets *s, struct sock *k)
{
    const struct sock_options *o = &k->opt;

    (void)tell(s, k, ZEST_OPT_NODELAY, o->nodelay);
    if (o->cork && k->kind != SOCK_LISTENER)
        (void)tell(s, k, ZEST_OPT_CORK, 1);
    if (o->keep_intvl_s)
        (void)tell(s, k, ZEST_OPT_KEEPINTVL, o->keep_intvl_s);
    if (o->keep_cnt)
        (void)tell(s, k, ZEST_OPT_KEEPCNT, o->keep_cnt);
    if (o->keepalive)
        (void)tell_keepalive(s, k);
    if (o->user_timeout_ms)
        (void)tell(s, k, ZEST_OPT_USER_TIMEOUT, o->user_timeout_ms);
    if (o->snd_buf)
        (void)tell(s, k, ZEST_OPT_SND_BUF, o->snd_buf / 2);
    if (o->rcv_buf)
        (void)tell(s, k, ZEST_OPT_RCV_BUF, o->rcv_buf / 2);
}

/* ---- set */

static uint32_t shown_size(int asked, uint32_t least)
{
    uint64_t n = asked < 0 ? SOCK_BUF_MAX : 2 * (uint64_t)(uint32_t)asked;

    if (n > SOCK_BUF_MAX)
        n = SOCK_BUF_MAX;
    return n < least ? least : (uint32_t)n;
}

static int set_timeout(uint64_t *out_ns, const void *value, socklen_t len)
{
    struct timeval tv;

    if (len < sizeof tv)
        return -EINVAL;
    memcpy(&tv, value, sizeof tv);
    if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
        return -EDOM;
    if (tv.tv_sec < 0)
        *out_ns = 1; /* Linux: no waiting at all */
    else if ((uint64_t)tv.tv_sec > ZEST_NEVER / NS_PER_S - 1)
        *out_ns = 0;
    else
        *out_ns = (uint64_t)tv.tv_sec * NS_PER_S + (uint64_t)tv.tv_usec * 1000;
    return 0;
}

static int set_linger(struct sock *k, const void *value, socklen_t len)
{
    struct linger l;

    if (len < sizeof l)
        return -EINVAL;
    memcpy(&l, value, sizeof l);
    k->opt.linger = l.l_onoff != 0;
    if (l.l_onoff)
        k->opt.linger_s = l.l_linger < 0 ? INT32_MAX : (uint32_t)l.l_linger;
    return 0;
}

static int set_socket(struct sockets *s, struct sock *k, int name, const void *value, socklen_t len,
                      int v)
{
    switch (name) {
    case SO_REUSEADDR:
        k->opt.reuse_addr = v != 0;
        return 0;
    case SO_KEEPALIVE:
        k->opt.keepalive = v != 0;
        return tell_keepalive(s, k);
    case SO_OOBINLINE:
        k->opt.oob_inline = v != 0;
        return 0;
    case SO_LINGER:
        return set_linger(k, value, len);
    case SO_RCVTIMEO:
        return set_timeout(&k->opt.rcv_timeout_ns, value, len);
    case SO_SNDTIMEO:
        return set_timeout(&k->opt.snd_timeout_ns, value, len);
    case SO_SNDBUF:
        k->opt.snd_buf = shown_size(v, SOCK_SNDBUF_MIN);
        return tell(s, k, ZEST_OPT_SND_BUF, k->opt.snd_buf / 2);
    case SO_RCVBUF:
        k->opt.rcv_buf = shown_size(v, SOCK_RCVBUF_MIN);
        return tell(s, k, ZEST_OPT_RCV_BUF, k->opt.rcv_buf / 2);
    default:
        return -ENOPROTOOPT;
    }
}

static int set_keep(struct sockets *s, struct sock *k, int name, int v)
{
    if (v < 1 || v > (name == TCP_KEEPCNT ? 127 : 32767))
        return -EINVAL;
    switch (name) {
    case TCP_KEEPIDLE:
        k->opt.keep_idle_s = (uint32_t)v;
        return k->opt.keepalive ? tell_keepalive(s, k) : 0;
    case TCP_KEEPINTVL:
        k->opt.keep_intvl_s = (uint32_t)v;
        return tell(s, k, ZEST_OPT_KEEPINTVL, (uint32_t)v);
    default:
        k->opt.keep_cnt = (uint32_t)v;
        return tell(s, k, ZEST_OPT_KEEPCNT, (uint32_t)v);
    }
}

static int set_tcp(struct sockets *s, struct sock *k, int name, int v)
{
    switch (name) {
    case TCP_NODELAY:
        k->opt.nodelay = v != 0;
        return tell(s, k, ZEST_OPT_NODELAY, v != 0);
    case TCP_CORK:
        k->opt.cork = v != 0;
        k->more = false;
        return k->kind == SOCK_LISTENER ? 0 : tell(s, k, ZEST_OPT_CORK, v != 0);
    case TCP_KEEPIDLE:
    case TCP_KEEPINTVL:
    case TCP_KEEPCNT:
        return set_keep(s, k, name, v);
    case TCP_USER_TIMEOUT:
        if (v < 0)
            return -EINVAL;
        k->opt.user_timeout_ms = (uint32_t)v;
        return tell(s, k, ZEST_OPT_USER_TIMEOUT, (uint32_t)v);
    default:
        return -ENOPROTOOPT;
    }
}

int sockets_setsockopt(struct sockets *s, int fd, int level, int name, const void *value,
                       socklen_t len)
{
    int ret = 0, v;

    if (!value)
        return -EFAULT;
    if (len < sizeof v)
        return -EINVAL;
    memcpy(&v, value, sizeof v);
    call_begin(s);
    struct sock *k = sock_get(s, fd, &ret);
    if (!k)
        return (int)call_end(s, ret);
    if (level == SOL_SOCKET)
        ret = set_socket(s, k, name, value, len, v);
    else
        ret = level == IPPROTO_TCP ? set_tcp(s, k, name, v) : -ENOPROTOOPT;
    sock_put(s, k);
    return (int)call_end(s, ret);
}

/* ---- get */

static int give(void *value, socklen_t *len, const void *from, size_t size)
{
    if (*len > INT32_MAX)
        return -EINVAL;
    if (*len > size)
        *len = (socklen_t)size;
    memcpy(value, from, *len);
    return 0;
}

static int give_int(void *value, socklen_t *len, uint32_t v)
{
    return give(value, len, &v, sizeof v);
}

static int give_timeout(void *value, socklen_t *len, uint64_t ns)
{
    struct timeval tv = {.tv_sec = (time_t)(ns / NS_PER_S),
                         .tv_usec = (suseconds_t)(ns % NS_PER_S / 1000)};

    return give(value, len, &tv, sizeof tv);
}

static int get_socket(struct sockets *s, struct sock *k, int name, void *value, socklen_t *len)
{
    const struct sock_options *o = &k->opt;
    const struct zest_config *z = &s->cfg.stack;
    struct linger l = {o->linger, (int)o->linger_s};

    switch (name) {
    case SO_ERROR:
        return give_int(value, len, (uint32_t)-take_error(k));
    case SO_TYPE:
        return give_int(value, len, SOCK_STREAM);
    case SO_DOMAIN:
        return give_int(value, len, (uint32_t)k->domain);
    case SO_PROTOCOL:
        return give_int(value, len, IPPROTO_TCP);
    case SO_ACCEPTCONN:
        return give_int(value, len, k->kind == SOCK_LISTENER);
    case SO_REUSEADDR:
        return give_int(value, len, o->reuse_addr);
    case SO_KEEPALIVE:
        return give_int(value, len, o->keepalive);
    case SO_OOBINLINE:
        return give_int(value, len, o->oob_inline);
    case SO_LINGER:
        return give(value, len, &l, sizeof l);
    case SO_RCVTIMEO:
        return give_timeout(value, len, o->rcv_timeout_ns);
    case SO_SNDTIMEO:
        return give_timeout(value, len, o->snd_timeout_ns);
    case SO_SNDBUF:
        return give_int(value, len,
                        or_default(o->snd_buf, 2 * or_default(z->snd_buf, BUF_DEFAULT)));
    case SO_RCVBUF:
        return give_int(value, len,
                        or_default(o->rcv_buf, 2 * or_default(z->rcv_buf, BUF_DEFAULT)));
    default:
        return -ENOPROTOOPT;
    }
}

static uint32_t mss(struct sockets *s, struct sock *k)
{
    struct zest_conn_info i;

    return k->kind == SOCK_CONNECTED && zest_conn_info(s->z, k->handle, &i) == 0 ? i.mss
                                                                                 : MSS_DEFAULT;
}

static int get_tcp(struct sockets *s, struct sock *k, int name, void *value, socklen_t *len)
{
    const struct sock_options *o = &k->opt;

    switch (name) {
    case TCP_NODELAY:
        return give_int(value, len, o->nodelay);
    case TCP_CORK:
        return give_int(value, len, o->cork);
    case TCP_KEEPIDLE:
        return give_int(value, len, or_default(o->keep_idle_s, KEEP_IDLE_S));
    case TCP_KEEPINTVL:
        return give_int(value, len, or_default(o->keep_intvl_s, KEEP_INTVL_S));
    case TCP_KEEPCNT:
        return give_int(value, len, or_default(o->keep_cnt, KEEP_CNT));
    case TCP_USER_TIMEOUT:
        return give_int(value, len, o->user_timeout_ms);
    case TCP_MAXSEG:
        return give_int(value, len, mss(s, k));
    case TCP_INFO:
        return tcp_info(s, k, value, len);
    default:
        return -ENOPROTOOPT;
    }
}

int sockets_getsockopt(struct sockets *s, int fd, int level, int name, void *value, socklen_t *len)
{
    int ret = 0;

    if (!value || !len)
        return -EFAULT;
    call_begin(s);
    struct sock *k = sock_get(s, fd, &ret);
    if (!k)
        return (int)call_end(s, ret);
    if (level == SOL_SOCKET)
        ret = get_socket(s, k, name, value, len);
    else
        ret = level == IPPROTO_TCP ? get_tcp(s, k, name, value, len) : -ENOPROTOOPT;
    sock_put(s, k);
    return (int)call_end(s, ret);
}
