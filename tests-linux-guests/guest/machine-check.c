/* What a program may do to the CPU, and what the kernel must make of it: on a hypervisor that runs
 * the kernel without its privileges, each of these takes a path of its own. Prints "ok NAME" or
 * "FAILED NAME: why" lines; part of the test script `work`. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <stddef.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096 };

static void verdict(const char *name, int good, const char *why)
{
	if (good)
		printf("ok %s\n", name);
	else
		printf("FAILED %s: %s\n", name, why);
	fflush(stdout);
}

/* ---- signals that faults turn into ---- */

static sigjmp_buf after_fault;
static volatile int fault_expected, fault_signal, fault_code;
static void *volatile fault_address;

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)context;
	if (!fault_expected) {
		printf("FAILED no other fault: signal %d, code %d\n", number, info->si_code);
		_exit(1);
	}
	fault_expected = 0;
	fault_signal = number;
	fault_code = info->si_code;
	fault_address = info->si_addr;
	siglongjmp(after_fault, 1);
}

static void catch_faults(void)
{
	static char stack[64 * 1024];
	stack_t alternative = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_sigaction = on_fault,
				    .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };

	sigaltstack(&alternative, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGILL, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
	sigaction(SIGTRAP, &action, NULL);
}

/* Runs the statement, which must raise the signal (none: 0). */
#define FAULTS(name, number, statement)                                       \
	do {                                                                  \
		fault_signal = 0;                                             \
		fault_expected = 1;                                           \
		if (!sigsetjmp(after_fault, 1)) {                             \
			statement;                                            \
		}                                                             \
		fault_expected = 0;                                           \
		char said[64];                                                \
		snprintf(said, sizeof(said), "signal %d, code %d",            \
			 fault_signal, fault_code);                           \
		verdict(name, fault_signal == (number), said);                \
	} while (0)

static volatile int zero;

static void faults(void)
{
	char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	FAULTS("division by zero", SIGFPE,
	       __asm__ volatile("divl %0" : : "r"(zero), "a"(1), "d"(0)));
	FAULTS("an invalid instruction", SIGILL, __asm__ volatile("ud2"));
	FAULTS("a breakpoint instruction", SIGTRAP, __asm__ volatile("int3"));
	FAULTS("a write to a read-only page", SIGSEGV, *(volatile char *)page = 1);
	verdict("the address of that write", fault_address == page && fault_code == SEGV_ACCERR,
		"wrong address or code");
	FAULTS("a read of nothing", SIGSEGV, (void)*(volatile char *)(uintptr_t)(zero + 0x123));
	verdict("the address of that read",
		fault_address == (void *)0x123 && fault_code == SEGV_MAPERR, "wrong address or code");
	FAULTS("a read of a non-canonical address", SIGSEGV,
	       (void)*(volatile char *)(0x800000000000ul + (uintptr_t)zero));
	FAULTS("a read of the hypervisor's memory", SIGSEGV,
	       (void)*(volatile char *)(0xffff820000000000ul + (uintptr_t)zero));
	FAULTS("a read of the kernel's memory", SIGSEGV,
	       (void)*(volatile char *)(0xffffffff81000000ul + (uintptr_t)zero));
	FAULTS("a jump into data", SIGSEGV, ((void (*)(void))page)());
	FAULTS("hlt", SIGSEGV, __asm__ volatile("hlt"));
	FAULTS("cli", SIGSEGV, __asm__ volatile("cli"));
	FAULTS("rdmsr", SIGSEGV,
	       __asm__ volatile("rdmsr" : : "c"(0xc0000080) : "eax", "edx"));
	FAULTS("a write to CR3", SIGSEGV, __asm__ volatile("mov %0, %%cr3" : : "r"(0ul)));
	FAULTS("lgdt", SIGSEGV, __asm__ volatile("lgdt (%0)" : : "r"(page) : "memory"));
	FAULTS("ltr", SIGSEGV, __asm__ volatile("ltr %%ax" : : "a"(0x40)));
	FAULTS("an I/O port without permission", SIGSEGV, (void)inb(0x71));
	FAULTS("a selector beyond the GDT", SIGSEGV,
	       __asm__ volatile("mov %0, %%gs" : : "r"(0xfff3)));
	FAULTS("an interrupt vector of the kernel", SIGSEGV, __asm__ volatile("int $0x20"));
	FAULTS("a hypercall of a program", SIGSEGV,
	       /* vmmcall is invalid or not allowed; either signal would do, Linux gives this one
		* for what the CPU calls invalid */
	       __asm__ volatile("int $0x82"));
	munmap(page, PAGE);
}

/* ---- a signal frame that cannot be returned to ---- */

static void spoil_selector(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;

	(void)number;
	(void)info;
	/* Code segment 0xfff3 is beyond the GDT: the return to user mode itself faults. */
	user->uc_mcontext.gregs[REG_CSGSFS] =
		(user->uc_mcontext.gregs[REG_CSGSFS] & ~0xffffl) | 0xfff3;
}

static void spoil_address(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;

	(void)number;
	(void)info;
	user->uc_mcontext.gregs[REG_RIP] = 0x0000800000000000;
}

static void bad_returns(void)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO };
	cpu_set_t all, one;
	char name[64];

	/* On each CPU: they began with other selectors in their registers. */
	sched_getaffinity(0, sizeof(all), &all);
	for (volatile size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		action.sa_sigaction = spoil_selector;
		sigaction(SIGUSR1, &action, NULL);
		snprintf(name, sizeof(name), "return to a selector beyond the GDT on CPU %zu", cpu);
		FAULTS(name, SIGSEGV, raise(SIGUSR1));
		action.sa_sigaction = spoil_address;
		sigaction(SIGUSR1, &action, NULL);
		snprintf(name, sizeof(name), "return to a non-canonical address on CPU %zu", cpu);
		FAULTS(name, SIGSEGV, raise(SIGUSR1));
	}
	sched_setaffinity(0, sizeof(all), &all);
}

/* ---- segments ---- */

static void segments(void)
{
	static uint64_t cell[2] = { 0x1122334455667788, 0x99aabbccddeeff00 };
	struct user_desc entry = { .entry_number = 1, .limit = 0xfffff, .seg_32bit = 1,
				   .limit_in_pages = 1, .useable = 1 };
	uint64_t seen = 0;
	unsigned low = 0;
	unsigned long base = 0;

	syscall(SYS_arch_prctl, ARCH_SET_GS, cell);
	for (int i = 0; i < 50; i++) {
		sched_yield();
		usleep(100);
	}
	__asm__ volatile("mov %%gs:8, %0" : "=r"(seen));
	syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
	verdict("the GS base stays over sleeps", seen == cell[1] && base == (unsigned long)cell,
		"another value was read");

	unsigned *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	shared[3] = 0xcafe;
	entry.base_addr = (unsigned)(uintptr_t)shared;
	verdict("an LDT entry is installed",
		syscall(SYS_modify_ldt, 1, &entry, sizeof(entry)) == 0, strerror(errno));
	__asm__ volatile("mov %1, %%gs\n\tmov %%gs:12, %0" : "=r"(low) : "r"((1 << 3) | 7));
	verdict("the LDT entry is used", low == 0xcafe, "another value was read");
	for (int i = 0; i < 50; i++)
		usleep(100);
	__asm__ volatile("mov %%gs:12, %0" : "=r"(low));
	verdict("the LDT stays over sleeps", low == 0xcafe, "another value was read");
	pid_t child = fork();
	if (child == 0) {
		__asm__ volatile("mov %%gs:12, %0" : "=r"(low));
		_exit(low != 0xcafe);
	}
	int status = 1;
	waitpid(child, &status, 0);
	verdict("a child has its parent's LDT", status == 0, "another value was read");
	__asm__ volatile("mov %0, %%gs" : : "r"(0));
	memset(&entry, 0, sizeof(entry));
	entry.entry_number = 1;
	entry.read_exec_only = entry.seg_not_present = 1;
	verdict("the LDT entry is cleared",
		syscall(SYS_modify_ldt, 1, &entry, sizeof(entry)) == 0, strerror(errno));
	FAULTS("a selector of the cleared entry", SIGSEGV,
	       __asm__ volatile("mov %0, %%gs" : : "r"((1 << 3) | 7)));
	syscall(SYS_arch_prctl, ARCH_SET_GS, 0);
	munmap(shared, PAGE);
}

/* ---- ways into the kernel ---- */

/* 32-bit code at a low address: getpid by int 0x80, then back to 64-bit code behind it. */
static const unsigned char compat_code[] = {
	0xb8, 20, 0, 0, 0,            /* mov $20, %eax */
	0xcd, 0x80,                   /* int $0x80 */
	0xea, 0, 0, 0, 0, 0x33, 0,    /* ljmp $0x33, back */
	0x48, 0x89, 0xdc,             /* back: mov %rbx, %rsp */
	0xc3,                         /* ret */
};
enum { COMPAT_TARGET = 8, COMPAT_BACK = 14 };

static void entries(void)
{
	long pid;

	__asm__ volatile("int $0x80" : "=a"(pid) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	verdict("int 0x80", pid == getpid(), "wrong process id");

	unsigned char *low = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	memcpy(low, compat_code, sizeof(compat_code));
	unsigned back = (unsigned)(uintptr_t)(low + COMPAT_BACK);
	memcpy(low + COMPAT_TARGET, &back, sizeof(back));
	pid = 0;
	__asm__ volatile("call 1f\n\tjmp 2f\n"
			 "1:\tmov %%rsp, %%rbx\n\t"
			 "mov %2, %%rsp\n\t"
			 "pushq $0x23\n\tpushq %1\n\tlretq\n"
			 "2:"
			 : "=a"(pid)
			 : "r"((uint64_t)(uintptr_t)low), "r"((uint64_t)(uintptr_t)low + PAGE)
			 : "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
	verdict("int 0x80 from 32-bit code", pid == getpid(), "wrong process id");
	munmap(low, PAGE);

	unsigned a, b, c, d;
	a = 0;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	verdict("cpuid", a >= 1 && b != 0, "no leaves");
	a = 0x40000000;
	b = c = d = 0;
	FAULTS("cpuid with the hypervisor's prefix", 0,
	       __asm__ volatile("ud2; .ascii \"xen\"; cpuid"
				: "+a"(a), "+b"(b), "+c"(c), "+d"(d)));
	verdict("cpuid of the hypervisor's leaf",
		b == 0x566e6558 && c == 0x65584d4d && d == 0x4d4d566e, "no such signature");
	unsigned long first = __builtin_ia32_rdtsc();
	verdict("rdtsc goes on", __builtin_ia32_rdtsc() >= first, "it ran backwards");
}

static void ports(void)
{
	verdict("ioperm", ioperm(0x80, 1, 1) == 0, strerror(errno));
	FAULTS("a permitted port", 0, outb(0, 0x80));
	FAULTS("the port beside it", SIGSEGV, outb(0, 0x81));
	ioperm(0x80, 1, 0);
	FAULTS("the port once permission is gone", SIGSEGV, outb(0, 0x80));
	verdict("iopl", iopl(3) == 0, strerror(errno));
	FAULTS("any port with iopl 3", 0, (void)inb(0x71));
	iopl(0);
	FAULTS("a port once iopl is 0", SIGSEGV, (void)inb(0x71));
}

/* ---- debugging ---- */

static volatile unsigned long watched;

static long poke_debug(pid_t child, int index, unsigned long value)
{
	return ptrace(PTRACE_POKEUSER, child,
		      offsetof(struct user, u_debugreg) + (size_t)index * sizeof(long), value);
}

static void debugging(void)
{
	int status, steps = 0;
	pid_t child = fork();

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		for (watched = 0; watched < 1000; watched++)
			;
		for (int i = 0; i < 3; i++) {
			usleep(1000);
			watched++;
		}
		_exit(7);
	}
	waitpid(child, &status, 0);
	for (; steps < 200; steps++) {
		if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) < 0 ||
		    waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
		    WSTOPSIG(status) != SIGTRAP)
			break;
	}
	verdict("single steps", steps == 200, "a step did not stop the child");
	/* Debug register 0 watches writes of 8 bytes; 600 of them are to be seen. */
	ptrace(PTRACE_POKEDATA, child, &watched, 400ul);
	long set = poke_debug(child, 0, (unsigned long)&watched);
	if (set == 0)
		set = poke_debug(child, 7, (0x9ul << 16) | 1);
	verdict("a debug register is set", set == 0, strerror(errno));
	int hits = 0;
	while (ptrace(PTRACE_CONT, child, NULL, NULL) == 0 &&
	       waitpid(child, &status, 0) == child && WIFSTOPPED(status) && hits < 2000)
		hits += WSTOPSIG(status) == SIGTRAP;
	char said[32];
	snprintf(said, sizeof(said), "%d hits", hits);
	verdict("a write is watched each time", hits >= 602 && hits <= 604, said);
	verdict("the debugged child ends", WIFEXITED(status) && WEXITSTATUS(status) == 7,
		"another status");
}

/* ---- state of several processes and threads ---- */

static int registers_stay(unsigned long seed)
{
	double a = (double)seed, b = a * 3, c;
	uint64_t x = seed, y = ~seed;

	for (int i = 0; i < 300; i++) {
		__asm__ volatile("movq %2, %%xmm5\n\tmovq %3, %%xmm15\n\tfldl %1\n\t"
				 "mov %4, %%eax\n\tsyscall\n\t"
				 "fstpl %0\n\tmovq %%xmm5, %2\n\tmovq %%xmm15, %3"
				 : "=m"(c), "+m"(b), "+r"(x), "+r"(y)
				 : "i"(SYS_sched_yield)
				 : "xmm5", "xmm15", "rax", "rcx", "r11", "memory");
		if (c != b || x != seed || y != ~seed)
			return 0;
	}
	return 1;
}

static void floating_point(void)
{
	pid_t children[6];
	int bad = 0, status;

	for (int i = 0; i < 6; i++) {
		children[i] = fork();
		if (children[i] == 0)
			_exit(!registers_stay(0x1234567u * (unsigned)(i + 1)));
	}
	for (int i = 0; i < 6; i++) {
		waitpid(children[i], &status, 0);
		bad += status != 0;
	}
	verdict("FPU and SSE registers stay each process's own", bad == 0, "they were mixed up");
}

static volatile uint64_t newest;
static volatile int backwards, turns;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static __thread unsigned long own;

static void *read_clocks(void *cpu)
{
	cpu_set_t set;
	struct timespec t;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	own = (unsigned long)cpu + 1;
	for (int i = 0; i < 3000; i++) {
		pthread_mutex_lock(&turn);
		clock_gettime(CLOCK_MONOTONIC, &t);
		uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
		if (now < newest)
			backwards++;
		newest = now;
		turns++;
		pthread_mutex_unlock(&turn);
		if (i % 100 == 0)
			usleep(10);
	}
	return own == (unsigned long)cpu + 1 ? NULL : cpu;
}

static void threads(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	long count = cpus < 2 ? 2 : cpus;
	pthread_t list[64];
	int mixed = 0;
	void *result;

	if (count > 64)
		count = 64;
	for (long i = 0; i < count; i++)
		pthread_create(&list[i], NULL, read_clocks, (void *)(i % cpus));
	for (long i = 0; i < count; i++) {
		pthread_join(list[i], &result);
		mixed += result != NULL;
	}
	verdict("thread-local data stays each thread's own", mixed == 0, "it was mixed up");
	verdict("all threads took their turns", turns == 3000 * count, "some are missing");
	verdict("the clock runs forward across CPUs", backwards == 0, "it ran backwards");
}

/* ---- memory ---- */

static void memory(void)
{
	enum { AREA = 32 << 20 };
	char *area = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int bad = 0, status;

	for (size_t i = 0; i < AREA; i += PAGE)
		*(size_t *)(area + i) = i;
	pid_t child = fork();
	if (child == 0) {
		for (size_t i = 0; i < AREA; i += PAGE) {
			bad |= *(size_t *)(area + i) != i;
			*(size_t *)(area + i) = ~i;
		}
		_exit(bad);
	}
	waitpid(child, &status, 0);
	for (size_t i = 0; i < AREA; i += PAGE)
		bad |= *(size_t *)(area + i) != i;
	verdict("copy on write of 32 MiB", status == 0 && !bad, "a page was wrong");

	char *moved = mremap(area, AREA, AREA * 2, MREMAP_MAYMOVE);
	bad = moved == MAP_FAILED;
	for (size_t i = 0; !bad && i < AREA; i += PAGE)
		bad = *(size_t *)(moved + i) != i;
	verdict("mremap of 32 MiB", !bad, "a page was wrong");
	for (size_t i = 0; i < AREA; i += 2 * PAGE)
		mprotect(moved + i, PAGE, PROT_READ);
	FAULTS("a page made read-only", SIGSEGV, moved[AREA / 2] = 1);
	FAULTS("the page beside it", 0, moved[AREA / 2 + PAGE] = 1);
	munmap(moved, AREA * 2);

	/* One page in each of many gigabytes: new page tables of every level. */
	for (unsigned long i = 1; i < 100; i++) {
		unsigned long *far = mmap((void *)(i << 39 | i << 30 | i << 21), PAGE,
					  PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (far == MAP_FAILED)
			continue;
		*far = i;
		if (*far != i)
			bad = 1;
	}
	child = fork();
	if (child == 0) {
		for (unsigned long i = 1; i < 100; i++)
			munmap((void *)(i << 39 | i << 30 | i << 21), PAGE);
		_exit(0);
	}
	waitpid(child, &status, 0);
	verdict("page tables all over the address space", !bad && status == 0, "a page was wrong");
}

static volatile int alarms;

static void on_alarm(int number)
{
	(void)number;
	alarms++;
}

static void timers(void)
{
	struct itimerval every = { { 0, 10000 }, { 0, 10000 } }, none = { { 0, 0 }, { 0, 0 } };
	struct timespec start, end;

	signal(SIGALRM, on_alarm);
	clock_gettime(CLOCK_MONOTONIC, &start);
	setitimer(ITIMER_REAL, &every, NULL);
	do {
		clock_gettime(CLOCK_MONOTONIC, &end);
	} while (end.tv_sec - start.tv_sec < 2);
	setitimer(ITIMER_REAL, &none, NULL);
	char said[32];
	snprintf(said, sizeof(said), "%d alarms", alarms);
	/* 100 to 200 for 1 to 2 s; a busy machine under emulation may lose some. */
	verdict("a timer of 10 ms", alarms >= 50 && alarms <= 210, said);
}

int main(void)
{
	catch_faults();
	faults();
	bad_returns();
	segments();
	entries();
	ports();
	debugging();
	floating_point();
	threads();
	memory();
	timers();
	return 0;
}
