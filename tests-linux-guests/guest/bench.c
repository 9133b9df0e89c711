/* Costs of what an operating system does all the time, in nanoseconds of the guest's clock.
 * Prints lines "BENCH NAME NANOSECONDS". `bench TIMES COMMAND...` and `bench once` measure a command,
 * `bench login` the boot so far, `bench loops` what a guest can measure of it all, `bench read` and `bench write` a
 * disk, `bench fetch` a network that `bench serve` is at the other end of, `bench until` how long it takes until
 * another one has written something, `bench pause` for how long nothing ran at all.
 * Static, so that no other file has a part in it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/rtc.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Marks the begin and the end of what the emulator's counters count: no-operations of seven bytes that
 * only the counting plugin (count.c) knows. */
#define MARK_BEGIN() __asm__ volatile(".byte 0x0f, 0x1f, 0x80, 0, 0x58, 0x45, 0x4e" ::: "memory")
#define MARK_END() __asm__ volatile(".byte 0x0f, 0x1f, 0x80, 1, 0x58, 0x45, 0x4e" ::: "memory")

enum { ROUNDS = 5 };

/* Runs `work` often enough, and prints the cheapest of the rounds. */
static void measure(const char *name, unsigned times, void (*work)(void))
{
	uint64_t best = UINT64_MAX;

	work();
	MARK_BEGIN();
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t start = now();
		for (unsigned i = 0; i < times; i++)
			work();
		uint64_t took = (now() - start) / times;
		if (took < best)
			best = took;
	}
	MARK_END();
	printf("BENCH %s %llu\n", name, (unsigned long long)best);
	printf("COUNTED %u\n", ROUNDS * times);
	fflush(stdout);
}

static void get_pid(void)
{
	syscall(SYS_getpid);
}

static void fork_exit_wait(void)
{
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (child == 0)
		_exit(0);
	if (waitpid(child, NULL, 0) != child)
		die("waitpid");
}

static void fork_exec_wait(void)
{
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (child == 0) {
		execl("/usr/bin/busybox", "true", (char *)NULL);
		_exit(1);
	}
	if (waitpid(child, NULL, 0) != child)
		die("waitpid");
}

enum { PAGES = 256, PAGE = 4096 };

/* One call touches PAGES fresh pages and gives them back. */
static void touch_pages(void)
{
	char *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		die("mmap");
	for (int i = 0; i < PAGES; i++)
		area[i * PAGE] = 1;
	munmap(area, PAGES * PAGE);
}

static char *protected_page;

static void protect_page(void)
{
	if (mprotect(protected_page, PAGE, PROT_READ) ||
	    mprotect(protected_page, PAGE, PROT_READ | PROT_WRITE))
		die("mprotect");
	*protected_page = 1;
}

static int to_child[2], to_parent[2];

static void round_trip(void)
{
	char byte = 0;

	if (write(to_child[1], &byte, 1) != 1 || read(to_parent[0], &byte, 1) != 1)
		die("pipe");
}

static pid_t start_echo(void)
{
	char byte;

	if (pipe(to_child) || pipe(to_parent))
		die("pipe");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		close(to_child[1]);
		close(to_parent[0]);
		while (read(to_child[0], &byte, 1) == 1)
			if (write(to_parent[1], &byte, 1) != 1)
				break;
		_exit(0);
	}
	close(to_child[0]);
	close(to_parent[1]);
	return child;
}

static void sleep_1ms(void)
{
	struct timespec t = { 0, 1000000 };

	nanosleep(&t, NULL);
}

static void get_time(void)
{
	now();
}

/* The privcmd device's request: a hypercall number and its arguments (Linux's uapi privcmd.h). */
struct hypercall {
	uint64_t op;
	uint64_t arg[5];
};

static int privcmd = -1;

static void null_hypercall(void)
{
	struct hypercall call = { .op = 17 /* xen_version */, .arg = { 0 /* XENVER_version */ } };

	if (ioctl(privcmd, _IOC(_IOC_NONE, 'P', 0, sizeof(call)), &call) < 0)
		die("privcmd");
}

/* Starts a command whose output nobody wants. */
static pid_t start_command(char **command)
{
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (child == 0) {
		if (!freopen("/dev/null", "w", stdout))
			_exit(126);
		execvp(command[0], command);
		_exit(127);
	}
	return child;
}

/* Waits for its end, which must be a good one. */
static void end_command(pid_t child, char **command)
{
	int status;

	if (waitpid(child, &status, 0) != child || status != 0)
		die(command[0]);
}

/* Prints how long the command takes, the cheapest of `times` runs. */
static void time_command(unsigned times, char **command)
{
	uint64_t best = UINT64_MAX;

	MARK_BEGIN();
	for (unsigned i = 0; i <= times; i++) {
		uint64_t before = now();

		end_command(start_command(command), command);
		uint64_t took = now() - before;
		/* The first run fills caches. */
		if (i > 0 && took < best)
			best = took;
	}
	MARK_END();
	printf("BENCH");
	for (char **word = command; *word; word++)
		printf(" %s", *word);
	printf(" %llu\nCOUNTED %u\n", (unsigned long long)best, times + 1);
}

/* Prints the time from power-on to the start of the kernel's clock: at an edge of the real-time
 * clock, which the emulator starts at the full minute, the seconds since power-on are exact. */
static void time_boot(void)
{
	struct rtc_time before, after;
	struct timespec up;
	int rtc = open("/dev/rtc0", O_RDONLY);

	if (rtc < 0 || ioctl(rtc, RTC_RD_TIME, &before) < 0)
		die("/dev/rtc0");
	do {
		if (ioctl(rtc, RTC_RD_TIME, &after) < 0)
			die("/dev/rtc0");
	} while (after.tm_sec == before.tm_sec);
	clock_gettime(CLOCK_MONOTONIC, &up);
	long long since = ((after.tm_hour * 60ll + after.tm_min) * 60 + after.tm_sec) * 1000000000ll;
	printf("BENCH power-on to kernel %lld\n", since - up.tv_sec * 1000000000ll - up.tv_nsec);
}

/* On an installed system, when it is about to ask for a login. */
static void at_login(void)
{
	uint64_t up = now();

	MARK_BEGIN();
	printf("BENCH kernel to login %llu\n", (unsigned long long)up);
	time_boot();
}

enum { MIB = 1 << 20 };

/* Prints what one of so many operations took since `start`. */
static void tell(const char *name, uint64_t start, unsigned operations)
{
	printf("BENCH %s %llu\nCOUNTED %u\n", name, (unsigned long long)((now() - start) / operations),
	       operations);
}

/* Reads or writes a block of a disk. */
typedef ssize_t move(int disk, char *block, size_t bytes, off_t at);

static ssize_t read_block(int disk, char *block, size_t bytes, off_t at)
{
	return pread(disk, block, bytes, at);
}

static ssize_t write_block(int disk, char *block, size_t bytes, off_t at)
{
	return pwrite(disk, block, bytes, at);
}

/* bench read|write NAME DISK BYTES TIMES OPERATIONS: so many blocks, one at a time, past the kernel's cache. */
static void move_blocks(char **words, int access, move *block_of)
{
	size_t bytes = strtoul(words[2], NULL, 0), times = strtoul(words[3], NULL, 0);
	char *block = aligned_alloc(PAGE, bytes);
	int disk = open(words[1], access | O_DIRECT);

	if (!block || disk < 0)
		die(words[1]);
	memset(block, 1, bytes);
	/* Once before it counts. */
	if (block_of(disk, block, bytes, 0) != (ssize_t)bytes)
		die("the disk");
	uint64_t start = now();
	MARK_BEGIN();
	for (size_t i = 0; i < times; i++)
		if (block_of(disk, block, bytes, (off_t)(i * bytes)) != (ssize_t)bytes)
			die("the disk");
	MARK_END();
	tell(words[0], start, (unsigned)atoi(words[4]));
}

/* Reads so much from port 80 of that address. */
static void fetch_once(const char *address, size_t left)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(80) };
	static char buffer[MIB / 4];
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (s < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1)
		die(address);
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	while (left) {
		ssize_t got = read(s, buffer, left < sizeof(buffer) ? left : sizeof(buffer));

		if (got <= 0)
			die("read");
		left -= (size_t)got;
	}
	close(s);
}

/* bench fetch NAME ADDRESS MIB TIMES: counts for each MiB. */
static void fetch(char **words)
{
	unsigned mib = (unsigned)atoi(words[2]), times = (unsigned)atoi(words[3]);

	/* Once before it counts. */
	fetch_once(words[1], (size_t)mib * MIB);
	uint64_t start = now();
	MARK_BEGIN();
	for (unsigned i = 0; i < times; i++)
		fetch_once(words[1], (size_t)mib * MIB);
	MARK_END();
	tell(words[0], start, mib * times);
}

/* Sends so many MiB to whom has connected, or what they want of it. */
static void serve_once(int to, unsigned mib)
{
	static char buffer[MIB / 4];

	for (size_t left = (size_t)mib * MIB; left;) {
		ssize_t sent = write(to, buffer, left < sizeof(buffer) ? left : sizeof(buffer));

		if (sent <= 0)
			break;
		left -= (size_t)sent;
	}
	close(to);
}

/* bench serve MIB: at port 80, in the background from when it listens. */
static void serve(unsigned mib)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(80) };
	int s = socket(AF_INET, SOCK_STREAM, 0);

	signal(SIGPIPE, SIG_IGN);
	if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(s, 8) < 0 ||
	    daemon(0, 0) < 0)
		die("serve");
	for (;;) {
		int to = accept(s, NULL, NULL);

		if (to < 0)
			_exit(1);
		serve_once(to, mib);
	}
}

static int has(const char *file, const char *text)
{
	static char content[MIB];
	int f = open(file, O_RDONLY);

	if (f < 0)
		return 0;
	ssize_t got = read(f, content, sizeof(content) - 1);
	close(f);
	if (got < 0)
		die(file);
	content[got] = 0;
	return strstr(content, text) != NULL;
}

/* bench until NAME FILE TEXT COMMAND...: from the start of the command until another program has written the text
 * to the file, which may not be there before. */
static void until(char **words)
{
	char *file = words[1], **command = words + 3, events[PAGE];
	int watch = inotify_init1(IN_CLOEXEC);

	if (watch < 0 || inotify_add_watch(watch, dirname(strdup(file)), IN_MODIFY) < 0)
		die(file);
	if (has(file, words[2])) {
		fprintf(stderr, "%s has it already\n", file);
		exit(1);
	}
	uint64_t before = now();
	MARK_BEGIN();
	pid_t child = start_command(command);
	while (!has(file, words[2]))
		if (read(watch, events, sizeof(events)) <= 0)
			die("inotify");
	MARK_END();
	tell(words[0], before, 1);
	end_command(child, command);
}

/* Prints how long a command takes that is run once: its name, and the command. */
static void once(char **words)
{
	uint64_t before = now();

	MARK_BEGIN();
	end_command(start_command(words + 1), words + 1);
	MARK_END();
	tell(words[0], before, 1);
}

/* bench pause NAME FILE: looks at the wall clock each millisecond until there is such a file, and prints the longest
 * time between two looks. That clock goes on while a guest is moved; the others stand still in it. */
static void longest_pause(char **words)
{
	uint64_t longest = 0, last = 0;

	while (access(words[1], F_OK) != 0) {
		struct timespec t;

		sleep_1ms();
		clock_gettime(CLOCK_REALTIME, &t);
		uint64_t at = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
		if (last && at > last && at - last > longest)
			longest = at - last;
		last = at;
	}
	printf("BENCH %s %llu\n", words[0], (unsigned long long)longest);
}

static void loops(void)
{
	measure("getpid", 20000, get_pid);
	measure("clock_gettime", 20000, get_time);
	measure("fork+exit+wait", 100, fork_exit_wait);
	measure("fork+exec+wait", 40, fork_exec_wait);
	measure("256 page faults", 40, touch_pages);
	protected_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (protected_page == MAP_FAILED)
		die("mmap");
	measure("mprotect twice + fault", 2000, protect_page);
	pid_t echo = start_echo();
	measure("pipe round trip", 2000, round_trip);
	close(to_child[1]);
	waitpid(echo, NULL, 0);
	measure("nanosleep 1 ms", 100, sleep_1ms);
	privcmd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
	if (privcmd >= 0)
		measure("null hypercall", 5000, null_hypercall);
}

int main(int count, char **words)
{
	const char *what = count > 1 ? words[1] : "";

	if (count == 7 && !strcmp(what, "read"))
		move_blocks(words + 2, O_RDONLY, read_block);
	else if (count == 7 && !strcmp(what, "write"))
		move_blocks(words + 2, O_WRONLY, write_block);
	else if (count == 6 && !strcmp(what, "fetch"))
		fetch(words + 2);
	else if (count == 3 && !strcmp(what, "serve"))
		serve((unsigned)atoi(words[2]));
	else if (count > 3 && !strcmp(what, "once"))
		once(words + 2);
	else if (count > 5 && !strcmp(what, "until"))
		until(words + 2);
	else if (count == 4 && !strcmp(what, "pause"))
		longest_pause(words + 2);
	else if (count == 2 && !strcmp(what, "loops"))
		loops();
	else if (count > 2)
		time_command((unsigned)atoi(what), words + 2);
	else if (count == 2)
		at_login();
	else {
		time_boot();
		loops();
	}
	return 0;
}
