/* sockets_netif_test.c - sockets over a link in real time: a TAP interface in a network namespace
 * of its own, with the Linux stack as the peer. Skipped where that can't be made. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "sockets/sockets.h"

#define BULK (8u << 20)

static struct zbuf_pool *pool;
static struct netif *nif;
static struct sockets_netif *driver;
static struct sockets *s;

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return ok;
}

static bool enter_namespace(void)
{
    char map[64];
    unsigned uid = geteuid();

    if (uid == 0)
        return unshare(CLONE_NEWNET) == 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return false;
    snprintf(map, sizeof map, "0 %u 1", uid);
    return write_file("/proc/self/uid_map", map);
}

static bool up(void)
{
    struct netif_error err = {""};
    struct sockets_config cfg = {.first_fd = 1000};

    pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 64u << 20, .no_huge = true});
    const struct netif_tap_config tap = {.pool = pool, .host_cidr = "10.9.0.1/24"};
    if (!pool || netif_open_tap(&tap, &nif, &err) < 0) {
        printf("%s\n", err.text);
        return false;
    }
    if (sockets_netif_new(nif, &driver) < 0)
        return false;
    cfg.driver = sockets_netif_driver(driver);
    cfg.stack.pool = pool;
    cfg.stack.mtu = netif_caps(nif)->mtu;
    memcpy(cfg.stack.mac, netif_caps(nif)->mac, 6);
    memset(cfg.stack.secret, 's', sizeof cfg.stack.secret);
    zest_addr_parse(&cfg.stack.ip, "10.9.0.2", 0);
    return sockets_open(&cfg, &s) == 0 && sockets_netif_start(driver, s) == 0;
}

static struct sockaddr_in name(const char *ip)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(7)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}

/* A program on the Linux stack: says everything again. */
static void *linux_echo(void *arg)
{
    static char buf[65536];
    int c = accept(*(int *)arg, NULL, NULL);

    for (ssize_t n; (n = read(c, buf, sizeof buf)) > 0;)
        for (ssize_t done = 0, k; done < n; done += k)
            if ((k = write(c, buf + done, (size_t)(n - done))) <= 0)
                break;
    close(c);
    return NULL;
}

static void *send_bulk(void *arg)
{
    int fd = *(int *)arg;
    uint32_t *words = malloc(BULK);

    for (uint32_t i = 0; i < BULK / 4; i++)
        words[i] = i * 2654435761u;
    bool ok = sockets_send(s, fd, words, BULK, 0) == BULK && sockets_shutdown(s, fd, SHUT_WR) == 0;
    free(words);
    return ok ? arg : NULL;
}

static void echo_of_bulk(void)
{
    struct sockaddr_in a = name("10.9.0.1");
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t echo, sender;
    uint32_t words[2048], at = 0;
    bool same = true;
    void *sent;

    CU_ASSERT_EQUAL_FATAL(bind(l, (struct sockaddr *)&a, sizeof a), 0);
    CU_ASSERT_EQUAL_FATAL(listen(l, 1), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&echo, NULL, linux_echo, &l), 0);
    int c = sockets_socket(s, AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_EQUAL_FATAL(sockets_connect(s, c, (struct sockaddr *)&a, sizeof a), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&sender, NULL, send_bulk, &c), 0);
    ssize_t n;
    while ((n = sockets_recv(s, c, words, sizeof words, MSG_WAITALL)) > 0)
        for (ssize_t i = 0; i < n / 4; i++)
            same &= words[i] == at++ * 2654435761u;
    CU_ASSERT_EQUAL(n, 0);
    CU_ASSERT_EQUAL(at, BULK / 4);
    CU_ASSERT_TRUE(same);
    pthread_join(sender, &sent);
    CU_ASSERT_PTR_NOT_NULL(sent);
    pthread_join(echo, NULL);
    CU_ASSERT_EQUAL(sockets_close(s, c), 0);
    close(l);
}

/* A time-out wakes the driver's thread, too: nothing else would. */
static void time_outs_and_refusal(void)
{
    struct sockaddr_in a = name("10.9.0.1");
    int c = sockets_socket(s, AF_INET, SOCK_STREAM, 0);
    struct pollfd p = {.events = POLLIN};

    CU_ASSERT_EQUAL(sockets_connect(s, c, (struct sockaddr *)&a, sizeof a), -ECONNREFUSED);
    p.fd = sockets_socket(s, AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_EQUAL(sockets_listen(s, p.fd, 1), 0);
    CU_ASSERT_EQUAL(sockets_poll(s, &p, 1, 20), 0);
}

int main(int argc, char **argv)
{
    static const struct check tests[] = {CHECK(echo_of_bulk), CHECK(time_outs_and_refusal)};

    if (!enter_namespace() || !up()) {
        printf("needs network namespaces and /dev/net/tun\n");
        return 77;
    }
    int ret = check_run("sockets_netif", tests, 2, argc > 1 ? argv[1] : NULL);
    sockets_netif_stop(driver);
    sockets_fini(s);
    netif_close(nif);
    if (zbuf_pool_destroy(pool) < 0)
        ret = 1; /* a segment did not come home */
    return ret;
}
