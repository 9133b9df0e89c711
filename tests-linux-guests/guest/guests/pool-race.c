/* pool-race DOMAIN POOL CPU SECONDS: changes everything about pools at once, by hypercalls: the domain moves between
 * pool 0 and POOL while it is pinned and paused, the CPU goes from the one pool to the other, and domains come and go in
 * both. At the end everything is as it was. Prints "ok NAME" or "FAILED NAME: why" lines. */
#include "calls.h"

static uint32_t domain, pool, cpu;
static time_t end;

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
	return pin(of, round % 2, round % 3 ? 1 << round / 3 % 4 : 0xff);
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
	return plain(round % 2 ? XEN_DOMCTL_unpausedomain : XEN_DOMCTL_pausedomain, domain);
}

static int makes(unsigned round)
{
	domid_t made;
	int answer = create(3, round % 2 ? 0 : pool, &made), last;

	if (answer)
		return answer;
	answer = max_vcpus(made, 3);
	last = plain(XEN_DOMCTL_destroydomain, made);
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
		int answer = job->step(round);

		/* One that is refused for ever is a mistake too. */
		if (!tolerates(job, answer) || (answer && time(NULL) > end + 60)) {
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
		pthread_join(jobs[i].thread, NULL);
		failed |= judged(&jobs[i]);
	}
	for (uint32_t vcpu = 0; vcpu < 4; vcpu++)
		pin(vcpu % 2 ? 0 : domain, vcpu / 2, 0xff);
	return failed;
}
