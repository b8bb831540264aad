/*
 * guc.h
 *	  evstore's settings.  docs/reference/settings.md lists them.
 */
#ifndef EVSTORE_GUC_H
#define EVSTORE_GUC_H

/* Who sends NOTIFY on channel evstore, and on those of subscriptions. */
typedef enum EvsNotifyMode
{
	EVS_NOTIFY_OFF,
	EVS_NOTIFY_WORKER,			/* the dispatcher, gathered */
	EVS_NOTIFY_COMMIT			/* each append, in its transaction */
} EvsNotifyMode;

/* Who has projections handle new events. */
typedef enum EvsDelivery
{
	EVS_DELIVERY_ASYNC,			/* workers, but for inline ones */
	EVS_DELIVERY_SYNC			/* for tests: the append, all of them */
} EvsDelivery;

extern char *evs_guc_actor;
extern bool evs_guc_capture_context;
extern char *evs_guc_causation_id;
extern char *evs_guc_correlation_id;
extern char *evs_guc_databases;
extern int	evs_guc_default_lease;
extern int	evs_guc_delivery;
extern char *evs_guc_egress_allow;
extern char *evs_guc_file_directory;
extern int	evs_guc_id_window;
extern int	evs_guc_inbox_retention;
extern int	evs_guc_max_batch;
extern int	evs_guc_max_event_size;
extern int	evs_guc_max_workers;
extern char *evs_guc_now_override;
extern int	evs_guc_notify;
extern int	evs_guc_notify_interval;
extern int	evs_guc_partition_size;
extern char *evs_guc_sink_path;
extern char *evs_guc_traceparent;

extern void evs_guc_init(void);

#endif							/* EVSTORE_GUC_H */
