/* Tries to reach what may not be dom0's, one access for each call:
 *   reach in|in2|in4 PORT           prints what IN gives
 *   reach out|out2|out4 PORT VALUE  writes to a port
 *   reach map DOMAIN FRAME [OFFSET [VALUE]]
 *                                   maps a machine frame by way of a domain, reads a word, or writes it too
 *   reach mem ADDRESS [VALUE]       the same for /dev/mem
 *   reach file PATH OFFSET [VALUE]  the same for a file
 *   reach poke ADDRESS              writes what it reads at a virtual address
 *   reach frames FIRST LAST STEP    maps machine frames as SELF, IO and XEN, writable; prints those that are no
 *                                   frames of dom0 by the machine-to-phys table, a line each
 *   reach call NUMBER COMMAND [WORD...]
 *                                   a hypercall with a structure of these 32-bit words; prints its result
 * Prints "refused: WHY" where the way is barred, "fault" where the access is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

/* The requests of the privcmd device (Linux's uapi privcmd.h). */
struct batch {
	uint32_t count;
	uint16_t domain;
	uint64_t address;
	const uint64_t *frames;
	int *errors;
};
struct hypercall {
	uint64_t op;
	uint64_t arg[5];
};

static sigjmp_buf back;

static void fault(int signal)
{
	(void)signal;
	siglongjmp(back, 1);
}

static void refused(int error)
{
	printf("refused: %s\n", strerror(error));
	exit(0);
}

static uint64_t number(const char *word)
{
	char *end;
	uint64_t value = strtoull(word, &end, 0);

	if (*word == 0 || *end != 0) {
		fprintf(stderr, "reach: %s is no number\n", word);
		exit(2);
	}
	return value;
}

static int privcmd(void)
{
	int file = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);

	if (file < 0) {
		perror("/dev/xen/privcmd");
		exit(2);
	}
	return file;
}

static void port(const char *how, char **words)
{
	unsigned at = (unsigned)number(words[0]);
	char width = how[strlen(how) - 1];

	if (iopl(3))
		refused(errno);
	if (how[0] == 'i') {
		printf("%#x\n", width == '4' ? inl(at) : width == '2' ? inw(at) : inb(at));
		return;
	}
	unsigned value = (unsigned)number(words[1]);
	if (width == '4')
		outl(value, at);
	else if (width == '2')
		outw(value, at);
	else
		outb(value, at);
}

/* Reads the word, and writes it when there is a value. */
static void touch(volatile uint32_t *word, const char *value)
{
	if (sigsetjmp(back, 1)) {
		printf("fault\n");
		return;
	}
	printf("%#x\n", *word);
	fflush(stdout);
	if (value) {
		/* A kernel that does not know that the page is read-only for good tries it again and again. */
		alarm(2);
		*word = (uint32_t)number(value);
		printf("written\n");
	}
}

static int map_batch(int file, unsigned domain, char *area, const uint64_t *frames, unsigned count,
		     int *errors)
{
	struct batch batch = { count, (uint16_t)domain, (uintptr_t)area, frames, errors };

	return ioctl(file, _IOC(_IOC_NONE, 'P', 4, sizeof(batch)), &batch);
}

static char *area_of(int file, size_t pages)
{
	char *area = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	if (area == MAP_FAILED)
		refused(errno);
	return area;
}

static void map(char **words)
{
	int file = privcmd(), error = 0;
	uint64_t frame = number(words[1]);
	char *area = area_of(file, 1);
	size_t offset = words[2] ? number(words[2]) % PAGE : 0;

	if (map_batch(file, (unsigned)number(words[0]), area, &frame, 1, &error) && !error)
		refused(errno);
	if (error)
		refused(-error);
	touch((uint32_t *)(area + offset), words[2] ? words[3] : NULL);
}

static void mapped_file(const char *path, char **words)
{
	int file = open(path, O_RDWR | O_SYNC);
	uint64_t at = number(words[0]);

	if (file < 0)
		refused(errno);
	char *area = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file,
			  (off_t)(at & ~(uint64_t)(PAGE - 1)));
	if (area == MAP_FAILED)
		refused(errno);
	touch((uint32_t *)(area + at % PAGE), words[1]);
}

static void poke(char **words)
{
	volatile uint64_t *at = (uint64_t *)(uintptr_t)number(words[0]);

	if (sigsetjmp(back, 1)) {
		printf("fault\n");
		return;
	}
	uint64_t value = *at;
	printf("read\n");
	fflush(stdout);
	*at = value;
	printf("written\n");
}

enum { SELF = 0x7ff0, IO = 0x7ff1, XEN = 0x7ff2, BATCH = 256 };

enum { CHUNK_PAGES = 512, CHUNKS = 8 };

/* The table that every PV guest may read; what belongs to no guest has no valid entry. The frames of its chunks of
 * 2 MiB are told by XENMEM_machphys_mfn_list. */
static const volatile uint64_t *machine_to_phys(int file)
{
	static uint64_t starts[CHUNKS], batch[CHUNK_PAGES];
	static int errors[CHUNK_PAGES];
	struct {
		unsigned max;
		uint64_t *starts;
		unsigned count;
	} list = { CHUNKS, starts, 0 };
	struct hypercall call = { .op = 12 /* memory_op */, .arg = { 5, (uintptr_t)&list } };

	if (ioctl(file, _IOC(_IOC_NONE, 'P', 0, sizeof(call)), &call) < 0)
		refused(errno);
	char *area = mmap(NULL, (size_t)CHUNKS * CHUNK_PAGES * PAGE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned chunk = 0; chunk < list.count; chunk++) {
		char *at = mmap(area + (size_t)chunk * CHUNK_PAGES * PAGE, CHUNK_PAGES * PAGE, PROT_READ,
				MAP_SHARED | MAP_FIXED, file, 0);
		for (unsigned i = 0; i < CHUNK_PAGES; i++)
			batch[i] = starts[chunk] + i;
		if (at == MAP_FAILED || map_batch(file, XEN, at, batch, CHUNK_PAGES, errors))
			refused(errno);
	}
	return (const volatile uint64_t *)area;
}

static void frames(char **words)
{
	static const unsigned ways[] = { SELF, IO, XEN };
	uint64_t first = number(words[0]), last = number(words[1]), step = number(words[2]);
	unsigned tried = 0, own = 0;
	int file = privcmd();
	const volatile uint64_t *table = machine_to_phys(file);

	for (unsigned way = 0; way < 3; way++) {
		uint64_t next = first;
		while (next <= last) {
			uint64_t batch[BATCH];
			int errors[BATCH] = { 0 };
			unsigned count = 0;
			for (; count < BATCH && next <= last; next += step)
				batch[count++] = next;
			char *area = area_of(file, count);
			int done = map_batch(file, ways[way], area, batch, count, errors);
			for (unsigned i = 0; i < count; i++) {
				tried++;
				if (errors[i] || (done && errno != ENOENT && !errors[i]))
					continue;
				if (table[batch[i]] < 1u << 28)
					own++;
				else
					printf("as %#x: frame %#llx\n", ways[way], (unsigned long long)batch[i]);
			}
			munmap(area, (size_t)count * PAGE);
		}
	}
	printf("tried %u, own %u\n", tried, own);
}

static void call(int count, char **words)
{
	static uint32_t buffer[64];
	struct hypercall call = { .op = number(words[0]) };

	for (int i = 2; i < count && i < 66; i++)
		buffer[i - 2] = (uint32_t)number(words[i]);
	call.arg[0] = number(words[1]);
	call.arg[1] = (uintptr_t)buffer;
	int result = ioctl(privcmd(), _IOC(_IOC_NONE, 'P', 0, sizeof(call)), &call);
	if (result < 0)
		refused(errno);
	printf("%d\n", result);
}

int main(int count, char **words)
{
	struct sigaction action = { .sa_handler = fault };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
	if (count < 3)
		return 2;
	const char *what = words[1];
	if (!strncmp(what, "in", 2) || (!strncmp(what, "out", 3) && count > 3))
		port(what, words + 2);
	else if (!strcmp(what, "map") && count > 3)
		map(words + 2);
	else if (!strcmp(what, "mem"))
		mapped_file("/dev/mem", words + 2);
	else if (!strcmp(what, "file") && count > 3)
		mapped_file(words[2], words + 3);
	else if (!strcmp(what, "poke"))
		poke(words + 2);
	else if (!strcmp(what, "frames") && count > 4)
		frames(words + 2);
	else if (!strcmp(what, "call") && count > 3)
		call(count - 2, words + 2);
	else
		return 2;
	return 0;
}
