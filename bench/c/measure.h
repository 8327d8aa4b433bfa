/* What the load generators have in common: clocks, a histogram of latencies, and who they are. */
#ifndef MEASURE_H
#define MEASURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PIDS = 64, SOURCES = 200 };
enum { SUB_BITS = 6, SUB = 1 << SUB_BITS, BUCKETS = 64 * SUB };
static const uint64_t SECOND = 1000000000ull;

/* The servers whose CPU time is read: their process clocks, all threads, user + kernel. */
static pid_t pids[MAX_PIDS];
static int pid_count;

static int measuring;
static uint64_t measured_cpu, measured_own_cpu, measured_ns; /* counters, then differences */
static uint64_t messages, max_latency; /* of the measured interval */
static uint64_t histogram[BUCKETS];

static void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(2);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;
	if (clock_gettime(id, &t) < 0)
		return 0;
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void add_pid(pid_t pid)
{
	if (pid_count == MAX_PIDS)
		exit(2);
	pids[pid_count++] = pid;
}

static uint64_t servers_cpu(void)
{
	uint64_t sum = 0;
	for (int i = 0; i < pid_count; i++) {
		clockid_t id;
		if (clock_getcpuclockid(pids[i], &id) == 0)
			sum += clock_ns(id);
	}
	return sum;
}

static void start_measuring(void)
{
	measured_cpu = servers_cpu();
	measured_own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	measured_ns = now();
	measuring = 1;
}

static void stop_measuring(void)
{
	if (!measuring)
		return;
	measuring = 0;
	measured_cpu = servers_cpu() - measured_cpu;
	measured_own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - measured_own_cpu;
	measured_ns = now() - measured_ns;
}

/* Log-linear: exact below 2*SUB ns, then SUB steps per power of two (1.6 % wide). */
static unsigned bucket_of(uint64_t ns)
{
	if (ns < 2 * SUB)
		return (unsigned)ns;
	unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
	return shift * SUB + (unsigned)(ns >> shift);
}

static double bucket_us(unsigned index)
{
	if (index < 2 * SUB)
		return index / 1e3;
	unsigned shift = index / SUB - 1;
	uint64_t low = (uint64_t)(index - shift * SUB) << shift;
	return ((double)low + (double)(1ull << shift) / 2) / 1e3;
}

static double percentile_us(double share)
{
	uint64_t target = (uint64_t)(share * (double)messages), seen = 0;
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += histogram[i];
		if (seen > target)
			return bucket_us(i);
	}
	return (double)max_latency / 1e3;
}

static void count_message(uint64_t latency)
{
	messages++;
	histogram[bucket_of(latency)]++;
	if (latency > max_latency)
		max_latency = latency;
}

static void report(uint64_t total, uint64_t errors, const char *first_error)
{
	printf("{\"messages\": %llu, \"total_messages\": %llu, \"seconds\": %.6f, \"cpu_ns\": %llu, "
	       "\"load_cpu_ns\": %llu, \"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f, "
	       "\"errors\": %llu, \"first_error\": \"%s\"}\n",
	       (unsigned long long)messages, (unsigned long long)total, (double)measured_ns / 1e9,
	       (unsigned long long)measured_cpu, (unsigned long long)measured_own_cpu,
	       percentile_us(0.50), percentile_us(0.99), (double)max_latency / 1e3,
	       (unsigned long long)errors, first_error);
}

static void report_held(int held, uint64_t total, uint64_t errors, const char *first_error)
{
	printf("{\"held\": %d, \"messages\": %llu, \"errors\": %llu, \"first_error\": \"%s\"}\n", held,
	       (unsigned long long)total, (unsigned long long)errors, first_error);
	fflush(stdout);
}

/* Connections come from many addresses, each with ports of its own: a storm then never meets those
 * that are in TIME_WAIT, and the kernel need not search for the last free ones of 18,000. */
static void bind_somewhere(int fd)
{
	static uint32_t next;
	int one = 1;
	struct sockaddr_in address = {.sin_family = AF_INET};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + next++ % SOURCES);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		die("bind");
}

/* On core `cpu`, unless it is -1, and with as many fds as there may be. */
static void settle_in(int cpu)
{
	if (cpu >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (sched_setaffinity(0, sizeof set, &set) < 0)
			die("sched_setaffinity");
	}
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

#endif
