/* domain-race ROUNDS [uncapped]: makes that many PV domains one after the other, by hypercalls. In each one vCPU takes the other down
 * and up all the time, while other threads pin it, pause it, change its share, ask for its state, give it memory and take
 * it, make vCPUs that it has, and destroy it; and dom0 loses a vCPU and gets it back. A domain lives until each of them was
 * at it some times. Prints "ok NAME" or "FAILED NAME: why" lines. */
#include "calls.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>

/* How the guest sees its memory, a page for each. */
enum { TOP, DIRECTORY_POINTERS, DIRECTORY, TABLE, CODE, STACK, PAGES };

/* Where CODE and STACK are. */
#define BASE 0xffffffff80000000UL
/* Present, writable, for the kernel which is not privileged, accessed. */
#define ENTRY 0x27UL

struct batch {
	uint32_t num;
	domid_t dom;
	uint64_t addr;
	const uint64_t *arr;
	int *err;
};

/* The last domain that was made; 0 before the first. */
static volatile domid_t current;
static volatile int over;
/* Shares have no cap. */
static int uncapped;

#define TEXT(number) TEXT_OF(number)
#define TEXT_OF(number) #number
#define CALL(number, first, second) \
	"	mov $" TEXT(number) ", %eax; mov $" TEXT(first) ", %edi; mov $" TEXT(second) ", %esi; xor %edx, %edx; syscall\n"

/* Both vCPUs' programs. */
extern const char guest_first[], guest_second[], guest_end[];
__asm__(".pushsection .rodata\n"
	"guest_first:\n"
	CALL(__HYPERVISOR_vcpu_op, VCPUOP_up, 1)
	CALL(__HYPERVISOR_sched_op, SCHEDOP_yield, 0)
	CALL(__HYPERVISOR_vcpu_op, VCPUOP_down, 1)
	CALL(__HYPERVISOR_sched_op, SCHEDOP_yield, 0)
	"	jmp guest_first\n"
	"guest_second:\n"
	CALL(__HYPERVISOR_sched_op, SCHEDOP_yield, 0)
	"	jmp guest_second\n"
	"guest_end:\n"
	".popsection\n");

static int memory(uint64_t op, domid_t of, uint64_t *frames, unsigned count)
{
	struct xen_memory_reservation ask = { .nr_extents = count, .domid = of };
	struct call call = { __HYPERVISOR_memory_op, { op, (uintptr_t)&ask } };
	int answer;

	set_xen_guest_handle(ask.extent_start, frames);
	answer = ioctl(device, _IOC(_IOC_NONE, 'P', 0, sizeof(call)), &call);
	return answer < 0 ? errno : answer == (int)count ? 0 : ENOMEM;
}

static int fill(domid_t of, const uint64_t *frames)
{
	uint64_t *page = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
	int errors[PAGES], answer;
	struct batch batch = { PAGES, of, (uintptr_t)page, frames, errors };

	if (page == MAP_FAILED)
		return errno;
	answer = ioctl(device, _IOC(_IOC_NONE, 'P', 4, sizeof(batch)), &batch) < 0 ? errno : 0;
	if (!answer) {
		memset(page, 0, PAGES * 4096);
		page[TOP * 512 + 511] = frames[DIRECTORY_POINTERS] << 12 | ENTRY;
		page[DIRECTORY_POINTERS * 512 + 510] = frames[DIRECTORY] << 12 | ENTRY;
		page[DIRECTORY * 512] = frames[TABLE] << 12 | ENTRY;
		page[TABLE * 512] = frames[CODE] << 12 | ENTRY;
		page[TABLE * 512 + 1] = frames[STACK] << 12 | ENTRY;
		memcpy(page + CODE * 512, guest_first, guest_end - guest_first);
	}
	/* Tables may not be mapped to be written to. */
	munmap(page, PAGES * 4096);
	return answer;
}

static int start_at(domid_t of, uint32_t vcpu, uint64_t top, unsigned long rip, unsigned long rsp)
{
	static vcpu_guest_context_t context;
	struct xen_domctl ask = { 0 };

	memset(&context, 0, sizeof(context));
	context.flags = VGCF_in_kernel | (vcpu ? 0 : VGCF_online);
	context.user_regs.cs = FLAT_KERNEL_CS;
	context.user_regs.ss = FLAT_KERNEL_SS;
	context.user_regs.rip = rip;
	context.user_regs.rsp = rsp;
	context.user_regs.rflags = 0x200;
	context.ctrlreg[3] = top << 12;
	ask.u.vcpucontext.vcpu = vcpu;
	set_xen_guest_handle(ask.u.vcpucontext.ctxt, &context);
	return domctl(&ask, XEN_DOMCTL_setvcpucontext, of);
}

/* Makes a domain and lets it go; nothing of it is there if something fails. */
static int build(domid_t *made)
{
	uint64_t frames[PAGES];
	struct xen_domctl ask = { 0 };
	int answer = create(2, 0, made);

	if (answer)
		return answer;
	for (unsigned i = 0; i < PAGES; i++)
		frames[i] = i;
	ask.u.max_mem.max_memkb = 256;
	answer = max_vcpus(*made, 2);
	answer = answer ? answer : domctl(&ask, XEN_DOMCTL_max_mem, *made);
	answer = answer ? answer : memory(XENMEM_populate_physmap, *made, frames, PAGES);
	answer = answer ? answer : fill(*made, frames);
	answer = answer ? answer : start_at(*made, 0, frames[TOP], BASE, BASE + 0x2000);
	answer = answer ? answer
			: start_at(*made, 1, frames[TOP], BASE + (guest_second - guest_first), BASE + 0x1800);
	if (answer) {
		plain(XEN_DOMCTL_destroydomain, *made);
		return answer;
	}
	current = *made;
	return plain(XEN_DOMCTL_unpausedomain, *made);
}

static int pins(unsigned round)
{
	return pin(current, round % 2, round % 3 ? 1 << round / 3 % 4 : 0xff);
}

static int pauses(unsigned round)
{
	domid_t of = current;
	int answer = plain(XEN_DOMCTL_pausedomain, of);

	if (answer)
		return answer;
	if (round % 4 == 0)
		sched_yield();
	return plain(XEN_DOMCTL_unpausedomain, of);
}

static int shares(unsigned round)
{
	struct xen_domctl ask = { 0 };

	ask.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT2;
	ask.u.scheduler_op.cmd = XEN_DOMCTL_SCHEDOP_putinfo;
	ask.u.scheduler_op.u.credit2.weight = 1 + round * 7919 % 65535;
	ask.u.scheduler_op.u.credit2.cap = uncapped || round % 4 ? 0 : 1 + round % 200;
	return domctl(&ask, XEN_DOMCTL_scheduler_op, current);
}

static int looks(unsigned round)
{
	static vcpu_guest_context_t context;
	struct xen_domctl ask = { 0 };

	if (round % 3 == 0)
		return plain(XEN_DOMCTL_getdomaininfo, current);
	if (round % 3 == 1) {
		ask.u.getvcpuinfo.vcpu = round % 2;
		return domctl(&ask, XEN_DOMCTL_getvcpuinfo, current);
	}
	ask.u.vcpucontext.vcpu = round % 2;
	set_xen_guest_handle(ask.u.vcpucontext.ctxt, &context);
	return domctl(&ask, XEN_DOMCTL_getvcpucontext, current);
}

/* The vCPUs that it has, or a third, of which it can have none. */
static int more_vcpus(unsigned round)
{
	return max_vcpus(current, 2 + round % 2);
}

static int gives_memory(unsigned round)
{
	uint64_t frames[4] = { PAGES, PAGES + 1, PAGES + 2, PAGES + 3 };
	domid_t of = current;
	int answer = memory(XENMEM_populate_physmap, of, frames, 1 + round % 4);

	return answer ? answer : memory(XENMEM_decrease_reservation, of, frames, 1 + round % 4);
}

/* One in four; the others live until the one that made them is done with them. */
static int destroys(unsigned round)
{
	domid_t of = current;

	if (of % 4 || round % 8)
		return plain(XEN_DOMCTL_getdomaininfo, of);
	return plain(XEN_DOMCTL_destroydomain, of);
}

static int dom0_cpu(unsigned round)
{
	int file = open("/sys/devices/system/cpu/cpu1/online", O_WRONLY), answer;

	answer = file < 0 || write(file, round % 2 ? "1" : "0", 1) != 1 ? errno : 0;
	close(file);
	return answer;
}

static struct job jobs[] = {
	{ .name = "it is pinned", .step = pins, .tolerated = { ESRCH, EINVAL } },
	{ .name = "it is paused", .step = pauses, .tolerated = { ESRCH, EINVAL } },
	{ .name = "its share changes", .step = shares, .tolerated = { ESRCH, EINVAL } },
	{ .name = "it is looked at", .step = looks, .tolerated = { ESRCH, EINVAL, ENODATA } },
	{ .name = "it gets vCPUs", .step = more_vcpus, .tolerated = { ESRCH, EINVAL } },
	{ .name = "it gets memory", .step = gives_memory, .tolerated = { ESRCH, EINVAL, ENOMEM } },
	{ .name = "it is destroyed twice", .step = destroys, .tolerated = { ESRCH } },
	{ .name = "dom0 loses a vCPU", .step = dom0_cpu },
};
enum { JOBS = sizeof(jobs) / sizeof(jobs[0]), DOM0_JOB = JOBS - 1, STEPS = 12 };

static void *work(void *argument)
{
	struct job *job = argument;

	/* What dom0 lost it gets back. */
	while (!over || (job == &jobs[DOM0_JOB] && job->rounds % 2)) {
		int answer;

		if (!current && job != &jobs[DOM0_JOB]) {
			sched_yield();
			continue;
		}
		answer = job->step(job->rounds);
		if (!tolerates(job, answer)) {
			job->wrong = answer;
			break;
		}
		if (answer)
			job->refused++;
		__atomic_add_fetch(&job->rounds, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Waits until all have had some steps since they had made so many; not for one that has ended, nor for dom0's vCPU. */
static void await_all(const unsigned *before)
{
	for (int i = 0; i < DOM0_JOB; i++)
		while (__atomic_load_n(&jobs[i].rounds, __ATOMIC_ACQUIRE) - before[i] < STEPS && !jobs[i].wrong)
			sched_yield();
}

static struct job lives = { .name = "domains come and go", .tolerated = { ESRCH } };

static int one_life(void)
{
	unsigned before[DOM0_JOB];
	domid_t made;
	int answer = build(&made);

	/* It may have been destroyed before it ran. */
	if (answer && answer != ESRCH && answer != EINVAL)
		return answer;
	for (int i = 0; i < DOM0_JOB; i++)
		before[i] = jobs[i].rounds;
	await_all(before);
	return plain(XEN_DOMCTL_destroydomain, made);
}

int main(int count, char **words)
{
	unsigned rounds = count > 1 ? atoi(words[1]) : 0;
	int failed = 0;

	uncapped = count > 2;
	device = open("/dev/xen/privcmd", O_RDWR);
	mlockall(MCL_CURRENT | MCL_FUTURE);
	for (int i = 0; i < JOBS; i++)
		pthread_create(&jobs[i].thread, NULL, work, &jobs[i]);
	while (lives.rounds < rounds && !lives.wrong) {
		int answer = one_life();

		if (!tolerates(&lives, answer))
			lives.wrong = answer;
		lives.refused += answer != 0;
		lives.rounds++;
		if (lives.rounds % 100 == 0)
			fprintf(stderr, "%u rounds\n", lives.rounds);
	}
	over = 1;
	for (int i = 0; i < JOBS; i++) {
		pthread_join(jobs[i].thread, NULL);
		failed |= judged(&jobs[i]);
	}
	return failed | judged(&lives);
}
