/* The ring on libevent: PAIRS socket pairs, ACTIVE bytes going round. Whoever becomes readable
 * reads one byte and writes one to the next pair, until WRITES bytes have been written and read.
 * A first ring of WARMUP writes isn't measured. Prints one JSON line. Starts to measure with other
 * processes when BENCH_GATE says how (bench/gate.py). */
#define _GNU_SOURCE
#include "gate.h"
#include <errno.h>
#include <event2/event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct pair {
	int in, out; /* a byte written to out becomes readable on in */
	struct pair *next;
	struct event *event;
};

static struct pair *pairs;
static struct event_base *base;
static int count, active;
static long to_write, to_read;

static void die(const char *what)
{
	fprintf(stderr, "ring_libevent: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void put(const struct pair *p, const char *byte)
{
	if (send(p->out, byte, 1, MSG_NOSIGNAL) != 1)
		die("send");
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct pair *p = arg;
	char byte;
	(void)what;
	if (recv(fd, &byte, 1, 0) != 1)
		die("recv");
	if (to_write) {
		to_write--;
		put(p->next, &byte);
	}
	to_read--;
}

static void ring(long writes)
{
	to_write = writes - active;
	to_read = writes;
	for (int i = 0; i < active; i++)
		put(&pairs[i * (count / active)], "x");
	while (to_read)
		if (event_base_loop(base, EVLOOP_ONCE) != 0)
			die("event_base_loop");
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "usage: ring_libevent PAIRS ACTIVE WRITES WARMUP\n");
		return 2;
	}
	count = atoi(argv[1]);
	active = atoi(argv[2]);
	long writes = atol(argv[3]), warmup = atol(argv[4]);
	if (active < 1 || active > count || writes < active || warmup < active) {
		fprintf(stderr, "ring_libevent: bad numbers\n");
		return 2;
	}
	pairs = calloc((size_t)count, sizeof *pairs);
	base = event_base_new();
	if (!pairs || !base)
		die("set-up");
	for (int i = 0; i < count; i++) {
		int fds[2];
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
			die("socketpair");
		pairs[i].in = fds[0];
		pairs[i].out = fds[1];
		pairs[i].next = &pairs[(i + 1) % count];
		pairs[i].event = event_new(base, fds[0], EV_READ | EV_PERSIST, on_readable, &pairs[i]);
		if (!pairs[i].event || event_add(pairs[i].event, 0) < 0)
			die("event_add");
	}
	ring(warmup);
	pass_gate();
	uint64_t wall = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	ring(writes);
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	wall = clock_ns(CLOCK_MONOTONIC) - wall;
	printf("{\"events\": %ld, \"cpu_us\": %.6f, \"wall_us\": %.6f}\n", writes,
	       (double)cpu / 1e3 / (double)writes, (double)wall / 1e3 / (double)writes);
	return 0;
}
