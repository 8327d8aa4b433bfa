/* The floor: a TCP echo server on level-triggered epoll, nothing else.
 * One recv and one send per message, one epoll_wait per batch. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256 };

struct pending { /* what the peer's window had no room for */
	char *bytes;
	size_t length, done;
};

static int ep, listener;
static char *buffer;
static size_t buffer_size;
static struct pending *pending; /* by fd */

static void die(const char *what)
{
	fprintf(stderr, "echo_epoll: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void watch(int op, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};
	if (epoll_ctl(ep, op, fd, &e) < 0)
		die("epoll_ctl");
}

static void drop(int fd)
{
	free(pending[fd].bytes);
	memset(&pending[fd], 0, sizeof pending[fd]);
	close(fd);
}

static void accept_all(void)
{
	int fd, one = 1;
	while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		watch(EPOLL_CTL_ADD, fd, EPOLLIN);
	}
	if (errno != EAGAIN && errno != ECONNABORTED)
		die("accept4");
}

static void on_readable(int fd)
{
	ssize_t n = recv(fd, buffer, buffer_size, 0);
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			drop(fd);
		return;
	}
	ssize_t sent = send(fd, buffer, (size_t)n, MSG_NOSIGNAL);
	if (sent == n)
		return;
	if (sent < 0 && errno != EAGAIN) {
		drop(fd);
		return;
	}
	if (sent < 0)
		sent = 0;
	struct pending *p = &pending[fd];
	p->length = (size_t)(n - sent);
	p->done = 0;
	p->bytes = malloc(p->length);
	if (!p->bytes)
		die("malloc");
	memcpy(p->bytes, buffer + sent, p->length);
	watch(EPOLL_CTL_MOD, fd, EPOLLOUT); /* and read no more until it is out */
}

static void on_writable(int fd)
{
	struct pending *p = &pending[fd];
	ssize_t sent = send(fd, p->bytes + p->done, p->length - p->done, MSG_NOSIGNAL);
	if (sent < 0) {
		if (errno != EAGAIN)
			drop(fd);
		return;
	}
	p->done += (size_t)sent;
	if (p->done == p->length) {
		free(p->bytes);
		memset(p, 0, sizeof *p);
		watch(EPOLL_CTL_MOD, fd, EPOLLIN);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: echo_epoll PORT RECV_SIZE\n");
		return 2;
	}
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
	struct rlimit limit;
	int one = 1;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	buffer_size = strtoul(argv[2], 0, 10);
	getrlimit(RLIMIT_NOFILE, &limit);
	pending = calloc(limit.rlim_cur, sizeof *pending);
	buffer = malloc(buffer_size);
	ep = epoll_create1(EPOLL_CLOEXEC);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (!pending || !buffer || ep < 0 || listener < 0)
		die("set-up");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
		die("bind");
	if (listen(listener, SOMAXCONN) < 0)
		die("listen");
	watch(EPOLL_CTL_ADD, listener, EPOLLIN);
	for (;;) {
		struct epoll_event events[EVENTS];
		int n = epoll_wait(ep, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == listener)
				accept_all();
			else if (pending[fd].bytes)
				on_writable(fd);
			else
				on_readable(fd);
		}
	}
}
