/* Closed-loop fan-out load on a chat: every publisher says something, waits until all subscribers
 * have got it, and says the next. With --window W it talks ahead: up to W of its messages are under
 * way at once, over its one connection. All speak WebSocket (RFC 6455); with --transport events or
 * poll the subscribers get server-sent events or wait in a long poll, which is for --hold alone; so
 * is --publishers 0: somebody else says what the subscribers expect, text and all.
 *
 * One thread, one epoll, one recv for all that has come: it has to cost less than any server
 * measured with it, or it would measure itself.
 *
 * Every item of every subscriber is verified: it is one that is under way, with the text that was
 * said; its number is the next in the channel, and the same for all subscribers; a publisher's come
 * in the order in which they were said: nothing lost, repeated or overtaken.
 *
 * The servers' CPU time is read here, at the very instants the count of deliveries starts and
 * stops. Prints one JSON line. Exit status: 0 all was right, 1 something was not, 2 bad usage.
 */
#define _GNU_SOURCE
#include "measure.h"
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/time.h>

enum { EVENTS = 256, SCRATCH = 1 << 18, MARK = 10, LONGEST = 1 << 16 };
enum { TEXT = 1, CLOSE = 8 }; /* opcodes */
static const char ITEM[] = "\"msg\":\"#", ID[] = "\"id\":\"";
static const char UPGRADE[] = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
			      "Sec-WebSocket-Version: 13\r\n"
			      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

struct conn {
	int fd; /* -1: not open */
	int frames; /* it speaks WebSocket */
	int greeted; /* the server has said something: HELLO, to who has joined */
	unsigned char *rest; /* what has come of something incomplete */
	size_t rest_size;
	/* A subscriber's: the number of the next item; -1: not known yet. A publisher's: no message
	 * below it may be new to all, for one that was said later has come. */
	long long next;
	uint64_t got; /* items */
	uint64_t came; /* when the last of them did, by CLOCK_MONOTONIC */
};

/* What has one message under way at a time, over a connection that it may share: each publisher has
 * a lane for each message of its window. Message m is of lane m % lanes, and so of publisher
 * m % publishers, too. */
struct lane {
	uint32_t number; /* of its message */
	int missing; /* the subscribers that haven't got it */
	long long item; /* its number in the channel; -1: nobody has got it */
	uint64_t started;
};

static struct {
	int port, subscribers, publishers, window, hold, cpu;
	const char *transport;
	size_t size; /* of a text */
	double warmup, seconds, patience; /* a message that takes longer never comes */
	uint64_t messages; /* measure this many deliveries, if fewer than seconds bring; 0: no limit */
} opt = {.subscribers = 1, .publishers = 1, .window = 1, .size = 64, .warmup = 0.5, .seconds = 3,
	 .patience = 10, .cpu = -1, .transport = "websocket"};

static struct conn *conns; /* the subscribers, then the speakers */
static int speakers; /* the publishers; or one whose connection isn't here, and so never open */
static struct lane *lanes;
static int lane_count;
static unsigned char scratch[SCRATCH + LONGEST];
static char *text; /* the mark and number of a message, then what is the same in all */
static int ep;
static int sending; /* a message that all have got is followed by the next */
static int outstanding; /* lanes whose message is under way */
static uint64_t total_messages, errors;
static char first_error[256];

__attribute__((format(printf, 2, 3)))
static void fail(struct conn *c, const char *format, ...)
{
	if (!errors++) {
		va_list args;
		va_start(args, format);
		vsnprintf(first_error, sizeof first_error, format, args);
		va_end(args);
	}
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	sending = 0;
}

static void say(struct conn *c, const void *bytes, size_t size)
{
	if (c->fd >= 0 && send(c->fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
		fail(c, "send: %s", strerror(errno));
}

static struct conn *speaker_of(uint32_t message)
{
	return &conns[opt.subscribers + (int)(message % (uint32_t)speakers)];
}

/* Expects the lane's next message, and sends it if its speaker is here: as a frame whose mask is zero: the text goes as it is. */
static void publish(struct lane *lane)
{
	static unsigned char frame[LONGEST];
	lane->number += (uint32_t)lane_count;
	lane->missing = opt.subscribers;
	lane->item = -1;
	snprintf(text, MARK, "#%08x", lane->number);
	text[MARK - 1] = ' ';
	const char *format = "{\"type\":\"publish\",\"channel\":\"room\",\"sname\":\"ann\",\"msg\":\"%s\"}";
	size_t size = strlen(format) - 2 + opt.size, head = 2;
	frame[0] = 0x80 | TEXT;
	frame[1] = 0x80 | (size < 126 ? size : 126);
	if (size >= 126) {
		frame[head++] = (unsigned char)(size >> 8);
		frame[head++] = (unsigned char)size;
	}
	memset(frame + head, 0, 4);
	head += 4;
	snprintf((char *)frame + head, sizeof frame - head, format, text);
	outstanding++;
	lane->started = now();
	say(speaker_of(lane->number), frame, head + size);
}

static void take_item(struct conn *c, const char *said, long long number, uint64_t t)
{
	uint32_t message = (uint32_t)strtoul(said + 1, 0, 16);
	struct lane *lane = &lanes[message % (uint32_t)lane_count];
	if (message != lane->number || !lane->missing) {
		fail(c, "message %u came, which is not under way", message);
		return;
	}
	if (memcmp(said + MARK, text + MARK, opt.size - MARK)) {
		fail(c, "message %u came with another text", message);
		return;
	}
	if (c->next >= 0 && number != c->next) {
		fail(c, "item %lld came in place of %lld", number, c->next);
		return;
	}
	if (lane->item < 0) {
		struct conn *speaker = speaker_of(message);
		if (message < speaker->next) {
			fail(c, "message %u came after one that was said later", message);
			return;
		}
		speaker->next = message + 1;
		lane->item = number;
	}
	if (number != lane->item) {
		fail(c, "message %u came as item %lld, and elsewhere as %lld", message, number, lane->item);
		return;
	}
	c->next = number + 1;
	c->got++;
	c->came = t;
	total_messages++;
	if (measuring) {
		count_message(t - lane->started);
		if (messages == opt.messages) {
			stop_measuring();
			sending = 0;
		}
	}
	if (--lane->missing)
		return;
	outstanding--;
	if (sending)
		publish(lane);
}

/* Takes the items in some text; returns how much of it need not be looked at again. */
static size_t take_text(struct conn *c, const char *from, size_t size, uint64_t t)
{
	const char *at = from, *end = from + size, *found, *id;
	while ((found = memmem(at, (size_t)(end - at), ITEM, sizeof ITEM - 1))) {
		const char *said = found + sizeof ITEM - 2;
		id = memmem(said, (size_t)(end - said), ID, sizeof ID - 1);
		const char *colon = id ? memchr(id + sizeof ID, ':', (size_t)(end - id) - sizeof ID) : 0;
		const char *quote = colon ? memchr(colon, '"', (size_t)(end - colon)) : 0;
		if (!quote || id - said < (ssize_t)opt.size)
			return (size_t)(found - from);
		take_item(c, said, strtoll(colon + 1, 0, 10), t);
		if (c->fd < 0)
			return size;
		at = quote;
	}
	size_t tail = sizeof ITEM - 2; /* what may be the beginning of another */
	return (size_t)(end - at) > tail ? size - tail : (size_t)(at - from);
}

/* Takes the frames that are complete; returns how many bytes they were. */
static size_t take_frames(struct conn *c, const unsigned char *from, size_t size, uint64_t t)
{
	size_t at = 0;
	while (c->fd >= 0 && size - at >= 2) {
		const unsigned char *frame = from + at;
		size_t head = 2, length = frame[1];
		if (length > 126) { /* masked, or longer than anything a chat says */
			fail(c, "a frame that begins with %02x %02x", frame[0], frame[1]);
			break;
		}
		if (length == 126) {
			head = 4;
			if (size - at < head)
				break;
			length = (size_t)frame[2] << 8 | frame[3];
		}
		if (size - at < head + length)
			break;
		c->greeted = 1;
		if (frame[0] == (0x80 | TEXT))
			take_text(c, (const char *)frame + head, length, t);
		else if ((frame[0] & 15) < CLOSE)
			fail(c, "a frame that begins with %02x, which is no whole text", frame[0]);
		else if ((frame[0] & 15) == CLOSE)
			fail(c, "the server said that it closes");
		at += head + length;
	}
	return at;
}

/* Takes what is complete of the `size` bytes in `scratch`, and keeps the rest. */
static void take(struct conn *c, size_t size)
{
	size_t taken = c->frames ? take_frames(c, scratch, size, now())
				 : take_text(c, (char *)scratch, size, now());
	if (size - taken > LONGEST)
		fail(c, "more than %d bytes without an item", LONGEST);
	if (c->fd < 0)
		return;
	c->rest_size = size - taken;
	if (c->rest_size && !(c->rest = realloc(c->rest, c->rest_size)))
		die("realloc");
	if (c->rest_size)
		memcpy(c->rest, scratch + taken, c->rest_size);
}

static void take_in(struct conn *c)
{
	if (c->rest_size)
		memcpy(scratch, c->rest, c->rest_size);
	ssize_t n = recv(c->fd, scratch + c->rest_size, SCRATCH, 0);
	if (n > 0)
		take(c, c->rest_size + (size_t)n);
	else
		fail(c, "%s", n ? strerror(errno) : "the server closed the connection");
}

static void poll_once(int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(ep, events, EVENTS, timeout_ms);
	if (n < 0 && errno != EINTR)
		die("epoll_wait");
	for (int i = 0; i < n; i++) {
		struct conn *c = &conns[events[i].data.u32];
		if (c->fd >= 0)
			take_in(c);
	}
}

/* Until all have got what is under way; those that never do become errors. */
static void drain(void)
{
	uint64_t deadline = now() + (uint64_t)(opt.patience * 1e9);
	while (outstanding && !errors && now() < deadline)
		poll_once(50);
	for (struct lane *lane = lanes; !errors && lane < lanes + lane_count; lane++)
		if (lane->missing)
			fail(speaker_of(lane->number), "%d subscribers did not get a message within %g s",
			     lane->missing, opt.patience);
}

/* Sends a request and waits until `end` has come. */
static void ask(struct conn *c, const char *target, const char *headers, const char *end)
{
	char request[512];
	int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: bench\r\n%s\r\n", target,
			    headers);
	size_t got = 0;
	char *found = 0;
	say(c, request, (size_t)size);
	while (end && c->fd >= 0 && !found) {
		ssize_t n = recv(c->fd, scratch + got, SCRATCH - got, 0);
		if (n <= 0) {
			fail(c, "%s: %s", target, n ? strerror(errno) : "the server closed the connection");
			return;
		}
		got += (size_t)n;
		found = memmem(scratch, got, end, strlen(end));
	}
	if (!found)
		return;
	got -= (size_t)(found + strlen(end) - (char *)scratch);
	memmove(scratch, found + strlen(end), got);
	take(c, got);
}

static void open_one(int i)
{
	struct conn *c = &conns[i];
	int one = 1;
	struct timeval patience = {.tv_sec = 10};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_CLOEXEC | SOCK_STREAM, 0);
	if (c->fd < 0)
		die("socket (is the fd limit high enough?)");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	bind_somewhere(c->fd);
	if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) {
		fail(c, "connect: %s", strerror(errno));
		return;
	}
	c->frames = i >= opt.subscribers || !strcmp(opt.transport, "websocket");
	if (i >= opt.subscribers) {
		ask(c, "/socket", UPGRADE, "\r\n\r\n");
	} else if (c->frames) {
		ask(c, "/socket?channel=room", UPGRADE, "\r\n\r\n");
		while (c->fd >= 0 && !c->greeted)
			take_in(c);
	} else if (!strcmp(opt.transport, "events")) {
		ask(c, "/stream?channel=room", "", "retry: ");
	} else {
		/* The first is only answered to know that there is somebody. */
		ask(c, "/presence?channel=room", "", "HELLO");
		ask(c, "/subscribe?channel=room&sname=ann&seqid=0", "", 0);
	}
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
	if (c->fd >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0)
		die("epoll_ctl");
}

/* For those that know when it was said: when each subscriber had it, in CLOCK_MONOTONIC's ns. */
static void report_arrivals(void)
{
	for (int i = 0; i < opt.subscribers; i++)
		printf("%c%llu", i ? ',' : '[', (unsigned long long)conns[i].came);
	printf("]\n");
	fflush(stdout);
}

/* For each byte on stdin, all subscribers that are held get one more message. Who speaks elsewhere
 * does so after the byte, or even before: what has come is not read until then. */
static void hold(void)
{
	char byte;
	report_held(opt.subscribers, total_messages, errors, first_error);
	while (read(0, &byte, 1) > 0) {
		publish(&lanes[0]);
		drain();
		report_held(opt.subscribers, total_messages, errors, first_error);
		if (!opt.publishers && !errors)
			report_arrivals();
	}
}

static void run(void)
{
	sending = 1;
	for (struct lane *lane = lanes; lane < lanes + lane_count; lane++)
		publish(lane);
	uint64_t until = now() + (uint64_t)(opt.warmup * 1e9);
	while (!errors && now() < until)
		poll_once(50);
	start_measuring();
	until = now() + (uint64_t)(opt.seconds * 1e9);
	while (!errors && measuring && now() < until)
		poll_once(50);
	stop_measuring();
	sending = 0;
	drain();
	for (int i = 0; !errors && i < opt.subscribers; i++)
		if (conns[i].got != conns[0].got)
			fail(&conns[i], "not all subscribers got the same number of messages");
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"port", 1, 0, 'p'},   {"connections", 1, 0, 'n'}, {"publishers", 1, 0, 'u'},
		{"size", 1, 0, 's'},   {"warmup", 1, 0, 'w'},      {"seconds", 1, 0, 't'},
		{"pid", 1, 0, 'P'},    {"cpu", 1, 0, 'c'},         {"hold", 0, 0, 'h'},
		{"messages", 1, 0, 'm'}, {"transport", 1, 0, 'T'}, {"window", 1, 0, 'W'},
		{"patience", 1, 0, 'e'}, {0, 0, 0, 0},
	};
	int o;
	while ((o = getopt_long(argc, argv, "", options, 0)) != -1) {
		switch (o) {
		case 'p': opt.port = atoi(optarg); break;
		case 'n': opt.subscribers = atoi(optarg); break;
		case 'u': opt.publishers = atoi(optarg); break;
		case 's': opt.size = strtoul(optarg, 0, 10); break;
		case 'w': opt.warmup = atof(optarg); break;
		case 't': opt.seconds = atof(optarg); break;
		case 'c': opt.cpu = atoi(optarg); break;
		case 'm': opt.messages = strtoull(optarg, 0, 10); break;
		case 'h': opt.hold = 1; break;
		case 'e': opt.patience = atof(optarg); break;
		case 'W': opt.window = atoi(optarg); break;
		case 'T': opt.transport = optarg; break;
		case 'P': add_pid(atoi(optarg)); break;
		default: exit(2);
		}
	}
	if (opt.port <= 0 || opt.subscribers <= 0 || opt.publishers < !opt.hold || opt.window <= 0 ||
	    opt.patience <= 0 || opt.size <= MARK || opt.size > LONGEST / 2) {
		fprintf(stderr, "fanout: --port, --connections, --publishers (without --hold), --window and "
				"--patience must be positive, and --size between %d and %d\n",
			MARK + 1, LONGEST / 2);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	settle_in(opt.cpu);
	speakers = opt.publishers ? opt.publishers : 1;
	lane_count = opt.publishers ? opt.publishers * opt.window : 1;
	conns = calloc((size_t)(opt.subscribers + speakers), sizeof *conns);
	lanes = calloc((size_t)lane_count, sizeof *lanes);
	text = malloc(opt.size + 1);
	if (!conns || !lanes || !text)
		die("malloc");
	memset(text, 'x', opt.size);
	text[opt.size] = 0;
	for (int i = 0; i < opt.subscribers + speakers; i++)
		conns[i] = (struct conn){.fd = -1, .next = -1};
	for (int l = 0; l < lane_count; l++)
		lanes[l].number = (uint32_t)l;
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0)
		die("epoll_create1");
	for (int i = 0; i < opt.subscribers + opt.publishers && !errors; i++)
		open_one(i);
	if (opt.hold) {
		hold();
	} else {
		if (!errors)
			run();
		report(total_messages, errors, first_error);
	}
	return errors ? 1 : 0;
}
