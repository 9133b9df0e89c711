/* Hypercalls of dom0's programs, and what several threads do to domains at once. */
#ifndef CALLS_H
#define CALLS_H

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

/* /dev/xen/privcmd */
static int device;

/* The error, 0 for none. */
static inline int hypercall2(uint64_t number, uint64_t first, uint64_t second)
{
	struct call call = { number, { first, second } };
	int answer = ioctl(device, _IOC(_IOC_NONE, 'P', 0, sizeof(call)), &call);

	return answer < 0 ? errno : 0;
}

static inline int hypercall(uint64_t number, void *argument)
{
	return hypercall2(number, (uintptr_t)argument, 0);
}

static inline int domctl(struct xen_domctl *ask, uint32_t cmd, domid_t of)
{
	ask->cmd = cmd;
	ask->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
	ask->domain = of;
	return hypercall(__HYPERVISOR_domctl, ask);
}

/* The hard affinity of a vCPU becomes these CPUs of the first eight. */
static inline int pin(domid_t of, uint32_t vcpu, uint8_t cpus)
{
	struct xen_domctl ask = { 0 };

	ask.u.vcpuaffinity.vcpu = vcpu;
	ask.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
	ask.u.vcpuaffinity.cpumap_hard.nr_bits = 8;
	set_xen_guest_handle(ask.u.vcpuaffinity.cpumap_hard.bitmap, &cpus);
	return domctl(&ask, XEN_DOMCTL_setvcpuaffinity, of);
}

/* A domain without memory or vCPUs; its number is left in MADE. */
static inline int create(uint32_t vcpus, uint32_t pool, domid_t *made)
{
	struct xen_domctl ask = { 0 };
	int answer;

	ask.u.createdomain.max_vcpus = vcpus;
	ask.u.createdomain.max_evtchn_port = 127;
	ask.u.createdomain.max_grant_frames = 4;
	ask.u.createdomain.max_maptrack_frames = 4;
	ask.u.createdomain.grant_opts = 1;
	ask.u.createdomain.cpupool_id = pool;
	answer = domctl(&ask, XEN_DOMCTL_createdomain, 0);
	*made = ask.domain;
	return answer;
}

static inline int max_vcpus(domid_t of, uint32_t vcpus)
{
	struct xen_domctl ask = { 0 };

	ask.u.max_vcpus.max = vcpus;
	return domctl(&ask, XEN_DOMCTL_max_vcpus, of);
}

/* A command that has no arguments. */
static inline int plain(uint32_t cmd, domid_t of)
{
	struct xen_domctl ask = { 0 };

	return domctl(&ask, cmd, of);
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

static inline int tolerates(const struct job *job, int answer)
{
	int known = answer == 0;

	for (unsigned i = 0; i < 4; i++)
		known |= answer == job->tolerated[i];
	return known;
}

/* Says how it went; 1 if not well. */
static inline int judged(const struct job *job)
{
	printf("%s: %u times, refused %u\n", job->name, job->rounds, job->refused);
	if (job->wrong || job->refused == job->rounds) {
		printf("FAILED race: %s: error %d\n", job->name, job->wrong);
		return 1;
	}
	printf("ok race: %s\n", job->name);
	return 0;
}

#endif
