/*
 * harness_stats.c
 *	  How many results of each class there were, and how long they took.
 */
#include <stdlib.h>

#include "harness.h"

static const char *const names[] = {"ok", "duplicate", "retry", "retry_sink", "permanent",
"fatal", "returned"};

static struct
{
	int64_t		n;
	int64_t		room;
	uint32_t   *latencies;		/* microseconds */
}			classes[lengthof(names)];

const char *
stats_name(int class)
{
	return class >= 0 && class < lengthof(names) ? names[class] : NULL;
}

int64_t
stats_number(int class)
{
	return classes[class].n;
}

void
stats_count(int class, int64_t latency_us)
{
	if (classes[class].n == classes[class].room)
	{
		classes[class].room = classes[class].room * 2 + 1000;
		classes[class].latencies = realloc(classes[class].latencies,
										   classes[class].room * sizeof(uint32_t));
		if (classes[class].latencies == NULL)
			die("out of memory");
	}
	classes[class].latencies[classes[class].n++] = latency_us;
}

static int
compare_latencies(const void *a, const void *b)
{
	uint32_t	x = *(const uint32_t *) a;
	uint32_t	y = *(const uint32_t *) b;

	return (x > y) - (x < y);
}

static void
report_class(int class)
{
	int64_t		n = classes[class].n;
	uint32_t   *latencies = classes[class].latencies;

	if (n == 0)
		return;
	qsort(latencies, n, sizeof(*latencies), compare_latencies);
	printf("result=%s count=%lld p50_us=%u p95_us=%u p99_us=%u max_us=%u\n", names[class],
		   (long long) n, latencies[n / 2], latencies[n * 95 / 100], latencies[n * 99 / 100],
		   latencies[n - 1]);
}

void
stats_report(void)
{
	for (int i = 0; i < lengthof(names); i++)
		report_class(i);
}
