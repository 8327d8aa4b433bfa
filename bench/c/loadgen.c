/* Closed-loop echo load: every connection sends one message, waits for the whole echo, compares
 * it byte by byte, and sends the next. With --storm it does so once, and the next message goes over
 * a new connection. With --udp a message is a datagram. Compiled with -DTLS, all of it goes through
 * OpenSSL (TLS 1.3, TLS_AES_256_GCM_SHA384, the server's certificate checked).
 *
 * One thread, one epoll, edge-triggered, one recv and one send per message, no copy of what is
 * sent: it has to cost less than any server measured with it, or it would measure itself.
 *
 * Payloads are windows at pseudo-random offsets of one block of pseudo-random bytes, so a stale,
 * reordered or foreign echo can't pass for the right one.
 *
 * The servers' CPU time is read here, at the very instants the message count starts and stops:
 * the process clocks of --pid (nanoseconds, all threads, user + kernel).
 *
 * Prints one JSON line. Exit status: 0 all echoes right, 1 some were not, 2 bad usage.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "measure.h"
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/time.h>
#ifdef TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

enum { EVENTS = 256, CONNECT_BATCH = 64, OFFSETS = 1 << 16, SCRATCH = 1 << 18 };
static const uint64_t PATIENCE = 10 * 1000000000ull; /* an echo that takes longer never comes */

struct conn {
	int fd; /* -1: not open */
	int waiting; /* a message is out whose echo isn't complete */
	uint32_t offset; /* of the message in the random block */
	size_t sent, got;
	uint64_t started;
	uint64_t random;
#ifdef TLS
	SSL *ssl;
#endif
};

static struct {
	int port, connections, hold, storm, udp, cpu;
	const char *certificate;
	size_t size;
	double warmup, seconds;
	uint64_t messages; /* measure this many, if fewer than seconds bring; 0: no such limit */
} opt = {.connections = 1, .size = 64, .warmup = 0.5, .seconds = 3, .cpu = -1};

static struct conn *conns;
static unsigned char *block, *scratch;
static size_t chunk; /* what one recv may take */
static int ep;
static int sending = 1; /* a finished echo is followed by the next message */
static int outstanding; /* connections whose echo isn't complete */
static uint64_t total_messages, errors;
static char first_error[256];

#ifdef TLS
static SSL_CTX *tls;

static void set_up_tls(void)
{
	tls = SSL_CTX_new(TLS_client_method());
	if (!tls || !SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(tls, "TLS_AES_256_GCM_SHA384") || !opt.certificate ||
	    !SSL_CTX_load_verify_locations(tls, opt.certificate, 0)) {
		fprintf(stderr, "loadgen: could not set up TLS with --certificate %s\n",
			opt.certificate ? opt.certificate : "missing");
		exit(2);
	}
	SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, 0);
	SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

/* As recv and send would have answered. */
static ssize_t answer(struct conn *c, int n)
{
	if (n > 0)
		return n;
	switch (SSL_get_error(c->ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL: /* without an errno: the end, unannounced */
		return errno ? -1 : 0;
	default:
		errno = EPROTO;
		return -1;
	}
}

static ssize_t get(struct conn *c, void *bytes, size_t n)
{
	ERR_clear_error();
	errno = 0;
	return answer(c, SSL_read(c->ssl, bytes, (int)n));
}

static ssize_t put(struct conn *c, const void *bytes, size_t n)
{
	ERR_clear_error();
	errno = 0;
	return answer(c, SSL_write(c->ssl, bytes, (int)n));
}

static int shake_hands(struct conn *c)
{
	if (!c->ssl)
		c->ssl = SSL_new(tls);
	if (!c->ssl)
		die("SSL_new");
	SSL_set_fd(c->ssl, c->fd);
	return SSL_connect(c->ssl) == 1;
}

static void hang_up(struct conn *c)
{
	SSL_free(c->ssl);
	c->ssl = 0;
	close(c->fd);
	c->fd = -1;
}
#else
static ssize_t get(struct conn *c, void *bytes, size_t n)
{
	/* MSG_TRUNC: the length of the datagram, were it longer than it may be */
	return recv(c->fd, bytes, n, opt.udp ? MSG_TRUNC : 0);
}

static ssize_t put(struct conn *c, const void *bytes, size_t n)
{
	return send(c->fd, bytes, n, MSG_NOSIGNAL);
}

static void hang_up(struct conn *c)
{
	close(c->fd);
	c->fd = -1;
}
#endif

__attribute__((format(printf, 2, 3)))
static void fail(struct conn *c, const char *format, ...)
{
	if (!errors++) {
		va_list args;
		va_start(args, format);
		vsnprintf(first_error, sizeof first_error, format, args);
		va_end(args);
	}
	if (c->waiting) {
		c->waiting = 0;
		outstanding--;
	}
	hang_up(c);
}

static void flush_out(struct conn *c)
{
	while (c->sent < opt.size) {
		ssize_t n = put(c, block + c->offset + c->sent, opt.size - c->sent);
		if (n == 0)
			errno = EPIPE; /* TLS only: the server has said that it is done */
		if (n <= 0) {
			if (errno != EAGAIN)
				fail(c, "send: %s", strerror(errno));
			return; /* the next edge says when there is room */
		}
		c->sent += (size_t)n;
	}
}

static void stop(void)
{
	stop_measuring();
	sending = 0;
}

static int open_one(int i);

static void begin(struct conn *c, uint64_t t)
{
	if (c->fd < 0 && !open_one((int)(c - conns)))
		return;

	c->random ^= c->random << 13; /* xorshift64 */
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	c->offset = (uint32_t)(c->random >> 32) & (OFFSETS - 1);
	c->sent = c->got = 0;
	c->started = t;
	c->waiting = 1;
	outstanding++;
	flush_out(c);
}

static void complete(struct conn *c)
{
	uint64_t t = now(), latency = t - c->started;
	c->waiting = 0;
	outstanding--;
	total_messages++;
	if (opt.storm)
		hang_up(c);
	if (measuring) {
		count_message(latency);
		if (messages == opt.messages)
			stop();
	}
	if (sending)
		begin(c, t);
}

static void take_in(struct conn *c)
{
	while (c->waiting) {
		size_t want = opt.size - c->got;
		ssize_t n = get(c, scratch, want < chunk ? want : chunk);
		if (n < 0) {
			if (errno != EAGAIN)
				fail(c, "recv: %s", strerror(errno));
			return;
		}
		if (opt.udp && (size_t)n != opt.size) {
			fail(c, "a datagram of %zd bytes, not %zu", n, opt.size);
			return;
		}
		if (n == 0) {
			fail(c, "the server closed after %zu of %zu bytes", c->got, opt.size);
			return;
		}
		if (memcmp(scratch, block + c->offset + c->got, (size_t)n)) {
			fail(c, "wrong bytes in the echo, at %zu of %zu", c->got, opt.size);
			return;
		}
		c->got += (size_t)n;
		if (c->got == opt.size) {
			complete(c);
			return; /* what the next message brings has an edge of its own */
		}
	}
	char extra;
	ssize_t n = get(c, &extra, 1);
	if (n > 0)
		fail(c, "bytes that nobody sent");
	else if (n == 0)
		fail(c, "the server closed a connection it had answered on");
	else if (errno != EAGAIN)
		fail(c, "recv: %s", strerror(errno));
}

static void poll_once(int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(ep, events, EVENTS, timeout_ms);
	if (n < 0 && errno != EINTR)
		die("epoll_wait");
	for (int i = 0; i < n; i++) {
		struct conn *c = &conns[events[i].data.u32];
		if (c->fd >= 0 && (events[i].events & EPOLLOUT) && c->waiting && c->sent < opt.size)
			flush_out(c);
		if (c->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
			take_in(c);
	}
}

/* Until every message that is out has been answered; those that never are become errors. */
static void drain(void)
{
	uint64_t deadline = now() + PATIENCE;
	while (outstanding && now() < deadline)
		poll_once(50);
	for (int i = 0; outstanding && i < opt.connections; i++)
		if (conns[i].fd >= 0 && conns[i].waiting)
			fail(&conns[i], "no echo within %d s", (int)(PATIENCE / SECOND));
}

/* Whether it is open. A storm's may not be connected yet: its first edge says when it is. */
static int open_one(int i)
{
	struct conn *c = &conns[i];
	int one = 1, flags = SOCK_CLOEXEC | (opt.storm ? SOCK_NONBLOCK : 0);
	/* SO_SNDTIMEO bounds a blocking connect too. */
	struct timeval patience = {.tv_sec = (time_t)(PATIENCE / SECOND)};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (!c->random)
		c->random = 0x9e3779b97f4a7c15ull * (uint64_t)(i + 1);
	c->fd = socket(AF_INET, flags | (opt.udp ? SOCK_DGRAM : SOCK_STREAM), 0);
	if (c->fd < 0)
		die("socket (is the fd limit high enough?)");
	if (!opt.udp) {
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		bind_somewhere(c->fd);
	}
	if (!opt.storm) {
		setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
		setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	}
	if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
		fail(c, "connect: %s", strerror(errno));
		return 0;
	}
#ifdef TLS
	if (!shake_hands(c)) {
		fail(c, "no TLS handshake: %s", ERR_reason_error_string(ERR_peek_error()));
		return 0;
	}
#endif
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = (uint32_t)i};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0)
		die("epoll_ctl");
	return 1;
}

/* In batches, each echoed once before the next: no backlog overflows, and when this is done every
 * connection is known to be accepted and served. After an error no more are opened: a server that
 * answers nobody would cost PATIENCE for each batch. */
static void open_all(void)
{
	sending = 0;
	for (int i = 0; i < opt.connections; i++)
		conns[i].fd = -1;
	for (int i = 0; i < opt.connections && !errors; i++) {
		begin(&conns[i], now());
		if (i % CONNECT_BATCH == CONNECT_BATCH - 1)
			drain();
	}
	drain();
	sending = 1;
}

/* For each byte on stdin, every connection that is held has one more message answered. */
static void hold(void)
{
	char byte;
	sending = 0;
	do {
		drain();
		report_held(opt.connections, total_messages, errors, first_error);
		if (read(0, &byte, 1) <= 0)
			return;
		for (int i = 0; i < opt.connections; i++)
			if (conns[i].fd >= 0)
				begin(&conns[i], now());
	} while (1);
}

static void run(void)
{
	uint64_t t = now();
	for (int i = 0; i < opt.connections; i++)
		if (conns[i].fd >= 0 || opt.storm)
			begin(&conns[i], t);

	uint64_t until = t + (uint64_t)(opt.warmup * 1e9);
	while (now() < until)
		poll_once(50);

	start_measuring();
	until = now() + (uint64_t)(opt.seconds * 1e9);
	while (measuring && now() < until)
		poll_once(50);
	stop();
	drain();
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"port", 1, 0, 'p'},    {"connections", 1, 0, 'n'}, {"size", 1, 0, 's'},
		{"warmup", 1, 0, 'w'},  {"seconds", 1, 0, 't'},     {"pid", 1, 0, 'P'},
		{"cpu", 1, 0, 'c'},     {"hold", 0, 0, 'h'},        {"messages", 1, 0, 'm'},
		{"storm", 0, 0, 'S'},   {"udp", 0, 0, 'u'},         {"certificate", 1, 0, 'C'},
		{0, 0, 0, 0},
	};
	int o;
	while ((o = getopt_long(argc, argv, "", options, 0)) != -1) {
		switch (o) {
		case 'p': opt.port = atoi(optarg); break;
		case 'n': opt.connections = atoi(optarg); break;
		case 's': opt.size = strtoul(optarg, 0, 10); break;
		case 'w': opt.warmup = atof(optarg); break;
		case 't': opt.seconds = atof(optarg); break;
		case 'c': opt.cpu = atoi(optarg); break;
		case 'm': opt.messages = strtoull(optarg, 0, 10); break;
		case 'h': opt.hold = 1; break;
		case 'S': opt.storm = 1; break;
		case 'u': opt.udp = 1; break;
		case 'C': opt.certificate = optarg; break;
		case 'P': add_pid(atoi(optarg)); break;
		default: exit(2);
		}
	}
	if (opt.port <= 0 || opt.connections <= 0 || opt.size == 0) {
		fprintf(stderr, "loadgen: --port, --connections and --size must be positive\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	settle_in(opt.cpu);
	chunk = opt.size < SCRATCH ? opt.size : SCRATCH;
	conns = calloc((size_t)opt.connections, sizeof *conns);
	block = malloc(OFFSETS + opt.size);
	scratch = malloc(chunk);
	if (!conns || !block || !scratch)
		die("malloc");
	uint64_t random = 88172645463325252ull;
	for (size_t i = 0; i < OFFSETS + opt.size; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		block[i] = (unsigned char)(random >> 56);
	}
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0)
		die("epoll_create1");
#ifdef TLS
	set_up_tls();
#endif
	open_all();
	if (opt.hold) {
		hold();
	} else {
		if (!errors) {
			pass_gate();
			run();
		}
		report(total_messages, errors, first_error);
	}
	return errors ? 1 : 0;
}
