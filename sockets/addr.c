/* addr.c - sockaddr to zest_addr and back. An AF_INET6 socket speaks of IPv4 as ::ffff:a.b.c.d, and
 * of "any" as ::, as a dual-stack socket does. */

#include "sock.h"

static const uint8_t MAPPED[12] = {[10] = 0xff, [11] = 0xff};

int addr_from_sockaddr(struct zest_addr *out, int domain, const struct sockaddr *sa, socklen_t len)
{
    if (!sa)
        return -EFAULT;
    if (len < sizeof(sa_family_t))
        return -EINVAL;
    *out = (struct zest_addr){0};
    if (domain == AF_INET) {
        struct sockaddr_in in;
        if (len < sizeof in)
            return -EINVAL;
        memcpy(&in, sa, sizeof in);
        if (in.sin_family != AF_INET)
            return -EAFNOSUPPORT;
        memcpy(out->ip, MAPPED, 12);
        memcpy(out->ip + 12, &in.sin_addr, 4);
        out->port = ntohs(in.sin_port);
        return 0;
    }
    struct sockaddr_in6 in6;
    if (len < offsetof(struct sockaddr_in6, sin6_scope_id))
        return -EINVAL;
    memset(&in6, 0, sizeof in6);
    memcpy(&in6, sa, len < sizeof in6 ? len : sizeof in6);
    if (in6.sin6_family != AF_INET6)
        return -EAFNOSUPPORT;
    memcpy(out->ip, &in6.sin6_addr, 16);
    out->port = ntohs(in6.sin6_port);
    return 0;
}

/* As much as *len lets it; *len becomes the whole length. */
void addr_to_sockaddr(const struct zest_addr *a, int domain, struct sockaddr *sa, socklen_t *len)
{
    union {
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } u;
    socklen_t size;

    memset(&u, 0, sizeof u);
    if (domain == AF_INET) {
        u.in.sin_family = AF_INET;
        u.in.sin_port = htons(a->port);
        memcpy(&u.in.sin_addr, a->ip + 12, 4);
        size = sizeof u.in;
    } else {
        u.in6.sin6_family = AF_INET6;
        u.in6.sin6_port = htons(a->port);
        memcpy(&u.in6.sin6_addr, a->ip, 16);
        size = sizeof u.in6;
    }
    if (sa && len) {
        memcpy(sa, &u, *len < size ? *len : size);
        *len = size;
    }
}
