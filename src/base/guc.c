/*
 * guc.c
 *	  evstore's settings, sorted by name.
 *
 * A setting that changes what is stored or promised for everybody is
 * PGC_SUSET; one that only describes the caller's own events is PGC_USERSET.
 */
#include "postgres.h"

#include <limits.h>

#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "base/egress_list.h"
#include "base/guc.h"

char	   *evs_guc_actor = NULL;
bool		evs_guc_capture_context = false;
char	   *evs_guc_causation_id = NULL;
char	   *evs_guc_correlation_id = NULL;
char	   *evs_guc_databases = NULL;
int			evs_guc_default_lease = 30000;
int			evs_guc_delivery = EVS_DELIVERY_ASYNC;
char	   *evs_guc_egress_allow = NULL;
char	   *evs_guc_file_directory = NULL;
int			evs_guc_id_window = -1;
int			evs_guc_inbox_retention = 7 * 24 * 60;
int			evs_guc_max_batch = 100000;
int			evs_guc_max_event_size = 16 * 1024 * 1024;
int			evs_guc_max_workers = 8;
char	   *evs_guc_now_override = NULL;
int			evs_guc_notify = EVS_NOTIFY_WORKER;
int			evs_guc_notify_interval = 10;
int			evs_guc_partition_size = 10000000;
char	   *evs_guc_sink_path = NULL;
char	   *evs_guc_traceparent = NULL;

#define CORRELATION_ID_MAX 512

static const struct config_enum_entry notify_modes[] = {
	{"off", EVS_NOTIFY_OFF, false},
	{"worker", EVS_NOTIFY_WORKER, false},
	{"commit", EVS_NOTIFY_COMMIT, false},
	{NULL, 0, false}
};

static const struct config_enum_entry deliveries[] = {
	{"async", EVS_DELIVERY_ASYNC, false},
	{"sync", EVS_DELIVERY_SYNC, false},
	{NULL, 0, false}
};

/*
 * Is the text a UUID in the form 8-4-4-4-12?  uuid_in() cannot be called from
 * a check hook: it would throw.
 */
static bool
looks_like_uuid(const char *s)
{
	for (int i = 0; i < 36; i++)
	{
		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (s[i] != '-')
				return false;
		}
		else if (!isxdigit((unsigned char) s[i]))
			return false;
	}
	return s[36] == '\0';
}

static bool
check_causation_id(char **newval, void **extra, GucSource source)
{
	if (*newval == NULL || **newval == '\0' || looks_like_uuid(*newval))
		return true;
	GUC_check_errdetail("The value must be the id of an event, a UUID, or empty.");
	return false;
}

static bool
check_correlation_id(char **newval, void **extra, GucSource source)
{
	if (*newval == NULL || strlen(*newval) <= CORRELATION_ID_MAX)
		return true;
	GUC_check_errdetail("The value is longer than %d bytes.", CORRELATION_ID_MAX);
	return false;
}

/* W3C Trace Context, version 00: version-trace id-parent id-flags. */
static bool
check_traceparent(char **newval, void **extra, GucSource source)
{
	const char *s = *newval;
	static const int dash[] = {2, 35, 52};
	int			next = 0;

	if (s == NULL || *s == '\0')
		return true;
	for (int i = 0; i < 55; i++)
	{
		if (next < (int) lengthof(dash) && i == dash[next])
		{
			next++;
			if (s[i] == '-')
				continue;
		}
		else if (isxdigit((unsigned char) s[i]))
			continue;
		GUC_check_errdetail("The value must be a W3C traceparent such as 00-<32 hex digits>-<16 hex digits>-01, or empty.");
		return false;
	}
	if (s[55] == '\0')
		return true;
	GUC_check_errdetail("The value has characters after the trace flags.");
	return false;
}

static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names;
	bool		ok = SplitGUCList(copy, ',', &names);

	list_free(names);
	pfree(copy);
	if (!ok)
		GUC_check_errdetail("List syntax is invalid.");
	return ok;
}

static bool
check_egress_allow(char **newval, void **extra, GucSource source)
{
	const char *list = *newval;
	EvsEgressEntry entry;
	int			result;
	int			n = 0;

	while ((result = evs_egress_next(&list, &entry)) > 0)
		n++;
	if (result < 0)
		GUC_check_errdetail("Entry %d is not a host name, *.suffix, *, an address, a range of addresses, each with an optional port, or unix.",
							n + 1);
	return result == 0;
}

static bool
check_path(char **newval, void **extra, GucSource source)
{
	if (**newval != '\0')
		return true;
	GUC_check_errdetail("The value must not be empty.");
	return false;
}

static void
define_session_settings(void)
{
	DefineCustomStringVariable("evstore.actor",
							   "Who causes the events that this session appends.",
							   "Stored as \"actor\" in the metadata of events that do not name one.",
							   &evs_guc_actor, "", PGC_USERSET, 0, NULL, NULL, NULL);

	/* Not USERSET: the point is that the client cannot leave it out. */
	DefineCustomBoolVariable("evstore.capture_context",
							 "Store who appended in the metadata of each event.",
							 "Adds \"context\" with the session user, application, client address and transaction.",
							 &evs_guc_capture_context, false, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomStringVariable("evstore.causation_id",
							   "Id of the event that causes the events that this session appends.",
							   NULL,
							   &evs_guc_causation_id, "", PGC_USERSET, 0,
							   check_causation_id, NULL, NULL);

	DefineCustomStringVariable("evstore.correlation_id",
							   "Correlation id of the events that this session appends.",
							   NULL,
							   &evs_guc_correlation_id, "", PGC_USERSET, 0,
							   check_correlation_id, NULL, NULL);

	/* A test wants to see what an append leads to, and to leave nothing behind. */
	DefineCustomEnumVariable("evstore.delivery",
							 "For tests: have appends run all projections in their transaction.",
							 "sync: a transaction that has done so cannot be committed.",
							 &evs_guc_delivery, EVS_DELIVERY_ASYNC, deliveries, PGC_USERSET, 0,
							 NULL, NULL, NULL);

	DefineCustomStringVariable("evstore.traceparent",
							   "W3C trace context of the events that this session appends.",
							   "Stored as \"traceparent\" in the metadata of events that do not name one.",
							   &evs_guc_traceparent, "", PGC_USERSET, 0,
							   check_traceparent, NULL, NULL);
}

static void
define_store_settings(void)
{
	/*
	 * Random (not time-ordered) event ids can be anywhere in the log.  Looking
	 * at each partition costs about a microsecond; who cannot pay that for
	 * hundreds of partitions may bound the search.
	 */
	DefineCustomIntVariable("evstore.id_window",
							"How far back event ids that are not UUIDv7 are compared with those of older partitions.",
							"-1 compares with all partitions.",
							&evs_guc_id_window, -1, -1, INT_MAX, PGC_SUSET, GUC_UNIT_MIN,
							NULL, NULL, NULL);

	/* A message that comes again after this time is a new one. */
	DefineCustomIntVariable("evstore.inbox_retention",
							"How long the inbox remembers at least what has been processed.",
							NULL,
							&evs_guc_inbox_retention, 7 * 24 * 60, 1, INT_MAX, PGC_SUSET,
							GUC_UNIT_MIN, NULL, NULL, NULL);

	DefineCustomIntVariable("evstore.max_batch",
							"Largest number of events in one call.",
							NULL,
							&evs_guc_max_batch, 100000, 1, 10000000, PGC_SUSET, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("evstore.max_event_size",
							"Largest size of an event's data and metadata together, as stored before compression.",
							NULL,
							&evs_guc_max_event_size, 16 * 1024 * 1024, 1024, 255 * 1024 * 1024,
							PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);

	/* Retries, leases and timers are tested by moving the clock, not by waiting. */
	DefineCustomStringVariable("evstore.now_override",
							   "For tests: the time that evstore takes for now.",
							   NULL,
							   &evs_guc_now_override, "", PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   NULL, NULL, NULL);

	DefineCustomIntVariable("evstore.partition_size",
							"Number of positions in a partition of the event log.",
							"Takes effect for partitions that are made from now on.",
							&evs_guc_partition_size, 10000000, 10, INT_MAX, PGC_SUSET, 0,
							NULL, NULL, NULL);
}

static void
define_worker_settings(void)
{
	DefineCustomStringVariable("evstore.databases",
							   "Databases in which a dispatcher is started.",
							   "A list of names with commas in between, or * for all that have the extension.",
							   &evs_guc_databases, "*", PGC_SIGHUP, GUC_LIST_INPUT,
							   check_databases, NULL, NULL);

	DefineCustomIntVariable("evstore.default_lease",
							"How long a consumer keeps what it has claimed without a sign of life.",
							"For subscriptions that do not set a lease of their own.",
							&evs_guc_default_lease, 30000, 100, 86400000, PGC_SUSET, GUC_UNIT_MS,
							NULL, NULL, NULL);

	/* They are background workers as others are: max_worker_processes counts, too. */
	DefineCustomIntVariable("evstore.max_workers",
							"How many workers run the projections of a database.",
							"0: none; run_projection() can be called instead.",
							&evs_guc_max_workers, 8, 0, 64, PGC_SIGHUP, 0,
							NULL, NULL, NULL);

	/*
	 * A NOTIFY in each transaction takes a lock of the whole cluster across
	 * the commit's flush.  It is there for servers that cannot preload.
	 */
	DefineCustomEnumVariable("evstore.notify",
							 "Who tells listeners about new events.",
							 "worker: the dispatcher; commit: each appending transaction, on channel evstore only; off: nobody.",
							 &evs_guc_notify, EVS_NOTIFY_WORKER, notify_modes, PGC_SUSET, 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("evstore.notify_interval",
							"The dispatcher sends at most one NOTIFY a channel in this time.",
							NULL,
							&evs_guc_notify_interval, 10, 1, 60000, PGC_SUSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
}

/* What a relay can reach is what whoever may create one could reach. */
static void
define_relay_settings(void)
{
	DefineCustomStringVariable("evstore.egress_allow",
							   "Where relays may connect to.",
							   "A list of host names, *.suffixes, addresses and ranges of them, each with an optional port, and unix; empty: nowhere.",
							   &evs_guc_egress_allow, "", PGC_SUSET, 0,
							   check_egress_allow, NULL, NULL);

	DefineCustomStringVariable("evstore.file_directory",
							   "Directory below which relays may write files.",
							   "Relative to the data directory.",
							   &evs_guc_file_directory, "evstore_relay", PGC_SUSET, 0,
							   check_path, NULL, NULL);

	/* code that the server runs */
	DefineCustomStringVariable("evstore.sink_path",
							   "Directories that sink modules are loaded from.",
							   "A list with colons in between; $libdir stands for the server's.",
							   &evs_guc_sink_path, "$libdir", PGC_SUSET, 0,
							   check_path, NULL, NULL);
}

void
evs_guc_init(void)
{
	define_relay_settings();
	define_session_settings();
	define_worker_settings();
	define_store_settings();
	MarkGUCPrefixReserved("evstore");
}
