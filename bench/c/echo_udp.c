/* The floor: a UDP echo server of one socket, which blocks in recvfrom. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void die(const char *what)
{
	fprintf(stderr, "echo_udp: %s: %s\n", what, strerror(errno));
	exit(1);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: echo_udp PORT RECV_SIZE\n");
		return 2;
	}
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	size_t size = strtoul(argv[2], 0, 10);
	char *buffer = malloc(size);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (!buffer || fd < 0)
		die("set-up");
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		die("bind");
	for (;;) {
		struct sockaddr_in peer;
		socklen_t length = sizeof peer;
		ssize_t n = recvfrom(fd, buffer, size, 0, (struct sockaddr *)&peer, &length);
		if (n < 0 && errno != EINTR && errno != ECONNREFUSED)
			die("recvfrom");
		if (n >= 0 && sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&peer, length) < 0 &&
		    errno != ECONNREFUSED)
			die("sendto");
	}
}
