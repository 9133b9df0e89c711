/* pool-race DOMAIN POOL CPU SECONDS: changes everything about pools at once, by hypercalls: the domain moves between
 * pool 0 and POOL while it is pinned and paused, the CPU goes from the one pool to the other, and domains come and go in
 * both. At the end everything is as it was. Prints "ok NAME" or "FAILED NAME: why" lines. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/domctl.h>
#include <xen/sysctl.h>

struct call {
	uint64_t number;
	uint64_t arguments[5];
};

static int device;
static uint32_t domain, pool, cpu;
static time_t end;

static int hypercall(uint64_t number, void *argument)
{
	struct call call = { number, { (uintptr_t)argument } };
	int answer = ioctl(device, _IOC(_IOC_NONE, 'P', 0, sizeof(call)), &call);

	return answer < 0 ? errno : 0;
}

static int pool_op(uint32_t op, uint32_t of)
{
	struct xen_sysctl ask = { .cmd = XEN_SYSCTL_cpupool_op,
				  .interface_version = XEN_SYSCTL_INTERFACE_VERSION };

	ask.u.cpupool_op.op = op;
	ask.u.cpupool_op.cpupool_id = of;
	ask.u.cpupool_op.cpu = cpu;
	ask.u.cpupool_op.domid = domain;
	return hypercall(__HYPERVISOR_sysctl, &ask);
}

static int domctl(struct xen_domctl *ask, uint32_t cmd, domid_t of)
{
	ask->cmd = cmd;
	ask->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
	ask->domain = of;
	return hypercall(__HYPERVISOR_domctl, ask);
}

/* What one thread does again and again. */
struct job {
	const char *name;
	int (*step)(unsigned round);
	/* Errors that are no mistake: something else was faster. */
	int tolerated[4];
	unsigned rounds, refused;
	int wrong;
	pthread_t thread;
};

static int moves(unsigned round)
{
	return pool_op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, round % 2 ? 0 : pool);
}

/* The CPU is in pool 0 at first. */
static int changes_pool(unsigned round)
{
	uint32_t from = round % 4 < 2 ? 0 : pool, to = round % 4 < 2 ? pool : 0;

	if (round % 2 == 0)
		return pool_op(XEN_SYSCTL_CPUPOOL_OP_RMCPU, from);
	return pool_op(XEN_SYSCTL_CPUPOOL_OP_ADDCPU, to);
}

static int pins(domid_t of, unsigned round)
{
	struct xen_domctl ask = { 0 };
	uint8_t cpus = round % 3 ? 1 << round / 3 % 4 : 0xff;

	ask.u.vcpuaffinity.vcpu = round % 2;
	ask.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
	ask.u.vcpuaffinity.cpumap_hard.nr_bits = 8;
	set_xen_guest_handle(ask.u.vcpuaffinity.cpumap_hard.bitmap, &cpus);
	return domctl(&ask, XEN_DOMCTL_setvcpuaffinity, of);
}

static int pins_guest(unsigned round)
{
	return pins(domain, round);
}

static int pins_dom0(unsigned round)
{
	return pins(0, round);
}

static int pauses(unsigned round)
{
	struct xen_domctl ask = { 0 };

	return domctl(&ask, round % 2 ? XEN_DOMCTL_unpausedomain : XEN_DOMCTL_pausedomain, domain);
}

static int makes(unsigned round)
{
	struct xen_domctl ask = { 0 };
	domid_t made;
	int answer, last;

	ask.u.createdomain.max_vcpus = 3;
	ask.u.createdomain.max_evtchn_port = 127;
	ask.u.createdomain.max_grant_frames = 4;
	ask.u.createdomain.max_maptrack_frames = 4;
	ask.u.createdomain.grant_opts = 1;
	ask.u.createdomain.cpupool_id = round % 2 ? 0 : pool;
	answer = domctl(&ask, XEN_DOMCTL_createdomain, 0);
	if (answer)
		return answer;
	made = ask.domain;
	memset(&ask, 0, sizeof(ask));
	ask.u.max_vcpus.max = 3;
	answer = domctl(&ask, XEN_DOMCTL_max_vcpus, made);
	memset(&ask, 0, sizeof(ask));
	last = domctl(&ask, XEN_DOMCTL_destroydomain, made);
	return answer ? answer : last;
}

static struct job jobs[] = {
	{ .name = "the domain moves", .step = moves },
	{ .name = "the CPU changes its pool", .step = changes_pool, .tolerated = { EBUSY, EAGAIN, EADDRNOTAVAIL } },
	{ .name = "the domain is pinned", .step = pins_guest, .tolerated = { EINVAL } },
	{ .name = "dom0 is pinned", .step = pins_dom0, .tolerated = { EINVAL } },
	{ .name = "the domain is paused", .step = pauses },
	{ .name = "domains come and go", .step = makes },
};

/* Often enough, and not in the middle of a pair or a round trip. */
static int may_end(unsigned round)
{
	return time(NULL) >= end && round >= 100 && round % 4 == 0;
}

static void *work(void *argument)
{
	struct job *job = argument;
	unsigned round = 0;

	while (!may_end(round)) {
		int answer = job->step(round), known = answer == 0;

		for (unsigned i = 0; i < 4; i++)
			known |= answer == job->tolerated[i];
		/* One that is refused for ever is a mistake too. */
		if (!known || (answer && time(NULL) > end + 60)) {
			job->wrong = answer;
			break;
		}
		if (answer)
			job->refused++;
		/* A step towards what is to be undone again is made until it is done. */
		if (answer == 0 || answer == EINVAL)
			round++;
		job->rounds++;
	}
	return NULL;
}

int main(int count, char **words)
{
	enum { JOBS = sizeof(jobs) / sizeof(jobs[0]) };
	struct xen_domctl ask = { 0 };
	uint8_t all = 0xff;
	int failed = 0;

	if (count != 5)
		return 2;
	domain = atoi(words[1]);
	pool = atoi(words[2]);
	cpu = atoi(words[3]);
	device = open("/dev/xen/privcmd", O_RDWR);
	end = time(NULL) + atoi(words[4]);
	for (int i = 0; i < JOBS; i++)
		pthread_create(&jobs[i].thread, NULL, work, &jobs[i]);
	for (int i = 0; i < JOBS; i++) {
		struct job *job = &jobs[i];

		pthread_join(job->thread, NULL);
		printf("%s: %u times, refused %u\n", job->name, job->rounds, job->refused);
		if (job->wrong || job->refused == job->rounds) {
			printf("FAILED race: %s: error %d\n", job->name, job->wrong);
			failed = 1;
		} else {
			printf("ok race: %s\n", job->name);
		}
	}
	for (uint32_t vcpu = 0; vcpu < 4; vcpu++) {
		/* What is in effect was written back. */
		all = 0xff;
		ask.u.vcpuaffinity.vcpu = vcpu / 2;
		ask.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
		ask.u.vcpuaffinity.cpumap_hard.nr_bits = 8;
		set_xen_guest_handle(ask.u.vcpuaffinity.cpumap_hard.bitmap, &all);
		domctl(&ask, XEN_DOMCTL_setvcpuaffinity, vcpu % 2 ? 0 : domain);
	}
	return failed;
}
