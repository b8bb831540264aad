/*
 * egress.c
 *	  Where relays may connect to: evstore.egress_allow.
 *
 * A name that is allowed may be resolved to anything by who runs its zone, so
 * addresses that are only reached from this machine are not reached by way of a name.
 */
#include "postgres.h"

#include "base/egress_list.h"
#include "base/guc.h"
#include "relay/egress.h"

/* What is asked for. */
typedef struct Target
{
	bool		is_socket;		/* a Unix-domain socket */
	bool		has_name;
	bool		has_address;
	bool		is_reserved;	/* the address: only an entry that names it allows it */
	int			port;
	EvsAddress	address;
	EvsAddress	reserved;		/* the range that it is in */
	char		name[EVS_HOST_MAX + 1]; /* "" if it has none that could be in the list */
} Target;

/*
 * Local to a link; and where machines in clouds are told their credentials, if that is
 * elsewhere: Alibaba, EC2, Google.
 */
static const EvsAddress reserved[] = {
	{AF_INET, 16, {169, 254}},
	{AF_INET6, 10, {0xfe, 0x80}},
	{AF_INET, 32, {100, 100, 100, 200}},
	{AF_INET6, 128, {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}},
	{AF_INET6, 128, {0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54}},
};

static void
look_at_address(Target *target)
{
	for (int i = 0; i < (int) lengthof(reserved); i++)
		if (evs_address_is_in(&target->address, &reserved[i]))
		{
			target->is_reserved = true;
			target->reserved = reserved[i];
		}
}

/* false: that can be nothing to connect to. */
static bool
make_target(Target *target, const char *host, const char *address, int port)
{
	memset(target, 0, sizeof(*target));
	target->port = port;
	if (host != NULL && (*host == '/' || *host == '@'))
	{
		target->is_socket = true;
		return true;
	}
	if (host != NULL && *host != '\0')
	{
		target->has_name = !evs_address_parse(host, &target->address);
		target->has_address = !target->has_name;
		if (target->has_name && !evs_host_normalise(host, strlen(host), target->name))
			return false;
	}
	if (address != NULL)
		target->has_address = evs_address_parse(address, &target->address);
	if (address != NULL ? !target->has_address : !target->has_name && !target->has_address)
		return false;
	if (target->has_address)
		look_at_address(target);
	return true;
}

static bool
ends_with(const char *name, const char *suffix)
{
	Size		length = strlen(name);
	Size		suffix_length = strlen(suffix);

	return length > suffix_length && strcmp(name + length - suffix_length, suffix) == 0;
}

/* A range names a reserved address if there is nothing else in it. */
static bool
allows_address(const EvsEgressEntry *entry, const Target *target)
{
	if (!target->has_address)
		return true;
	return evs_address_is_in(&target->address, &entry->address) &&
		(!target->is_reserved || evs_address_is_in(&entry->address, &target->reserved));
}

static bool
allows(const EvsEgressEntry *entry, const Target *target)
{
	if (target->is_socket || entry->kind == EVS_EGRESS_UNIX)
		return target->is_socket && entry->kind == EVS_EGRESS_UNIX;
	if (entry->port != 0 && entry->port != target->port)
		return false;
	switch (entry->kind)
	{
		case EVS_EGRESS_ANY_NAME:
			return !target->is_reserved;
		case EVS_EGRESS_NAME:
			return !target->is_reserved && strcmp(target->name, entry->name) == 0;
		case EVS_EGRESS_SUFFIX:
			return !target->is_reserved && ends_with(target->name, entry->name);
		case EVS_EGRESS_ADDRESS:
			return allows_address(entry, target);
		case EVS_EGRESS_UNIX:
			break;
	}
	return false;
}

bool
evs_egress_allowed(const char *host, const char *address, int port)
{
	const char *list = evs_guc_egress_allow;
	EvsEgressEntry entry;
	Target		target;

	if (list == NULL || !make_target(&target, host, address, port))
		return false;
	while (evs_egress_next(&list, &entry) > 0)
		if (allows(&entry, &target))
			return true;
	return false;
}
