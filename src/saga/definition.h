/*
 * definition.h
 *	  Sagas as they are defined: {asl, compensation, options}, compiled.
 *
 * asl is a document of the Amazon States Language, unmodified; compensation says how
 * what its states have done is undone (compensating transactions: Garcia-Molina and
 * Salem, 1987), options when instances start and what events are theirs.  Compiling
 * needs no catalog: whether functions, relays and sagas exist is looked at elsewhere.
 */
#ifndef EVSTORE_SAGA_DEFINITION_H
#define EVSTORE_SAGA_DEFINITION_H

#include "nodes/pg_list.h"

#include "asl/choice.h"
#include "asl/path.h"
#include "asl/template.h"

/* What a Task's Resource names. */
typedef enum EvsResourceKind
{
	EVS_RESOURCE_SQL,			/* evstore:sql:<function>: in the transition's transaction */
	EVS_RESOURCE_APPEND,		/* evstore:append: an event to a stream, likewise */
	EVS_RESOURCE_RELAY,			/* evstore:relay:<relay>: done when the relay has delivered */
	EVS_RESOURCE_ACTIVITY,		/* evstore:activity:<name>: pulled with fetch_tasks(); any other URN, too */
	EVS_RESOURCE_EVENT,			/* evstore:event:<type>: waits for a correlated event */
	EVS_RESOURCE_SIGNAL,		/* evstore:signal:<name>: waits for signal_saga() */
	EVS_RESOURCE_SAGA			/* evstore:saga:<name>, or ….sync, which waits for its end */
} EvsResourceKind;

typedef struct EvsResource
{
	EvsResourceKind kind;
	char	   *text;			/* as written */
	char	   *name;			/* what follows the kind, without a suffix; "" if nothing does */
	bool		wait_for_token; /* suffix .waitForTaskToken: done by complete_task() */
	bool		sync;			/* suffix .sync */
} EvsResource;

typedef struct EvsRetrier
{
	int			nerrors;
	char	  **errors;
	double		interval;		/* seconds */
	int			max_attempts;	/* retries; 0 = none */
	double		backoff_rate;
	double		max_delay;		/* seconds; 0 = no limit */
	bool		full_jitter;
} EvsRetrier;

typedef struct EvsCatcher
{
	int			nerrors;
	char	  **errors;
	EvsAslPath *result_path;	/* NULL with discard: the error is dropped; NULL without: $ */
	bool		discard;
	EvsAslTemplate *assign;		/* or NULL */
	int			next;			/* state of the same machine */
} EvsCatcher;

typedef enum EvsStateType
{
	EVS_STATE_TASK,
	EVS_STATE_CHOICE,
	EVS_STATE_WAIT,
	EVS_STATE_PASS,
	EVS_STATE_SUCCEED,
	EVS_STATE_FAIL,
	EVS_STATE_PARALLEL,
	EVS_STATE_MAP
} EvsStateType;

typedef struct EvsChoice
{
	EvsAslRule *rule;
	EvsAslTemplate *assign;		/* or NULL */
	int			next;
	char	   *label;			/* the rule in short, for people */
} EvsChoice;

/* How what a state has done is undone. */
typedef struct EvsCompensator
{
	bool		pivot;			/* once it has succeeded, nothing is compensated any more */
	bool		has_resource;
	EvsResource resource;		/* SQL, APPEND, RELAY, ACTIVITY */
	EvsAslTemplate *parameters; /* of {"input", "output", "error", "outcome"}; NULL: that object */
	bool		when_succeeded; /* defaults: both */
	bool		when_unknown;
	int			nno_effect;		/* KnownNoEffect: errors after which there is nothing to undo */
	char	  **no_effect;
	int			nretriers;
	EvsRetrier *retriers;		/* default: States.ALL, 1 s doubling to 60 s, 20 attempts, full jitter */
	double		timeout;		/* seconds; 0 = none */
} EvsCompensator;

typedef struct EvsMachine EvsMachine;

typedef struct EvsSagaState
{
	EvsStateType type;
	char	   *name;
	int			next;			/* state of the same machine; -1 = End, or a terminal type */
	EvsAslPath *input_path;		/* NULL: $, or with discard_input {} */
	EvsAslPath *output_path;
	EvsAslPath *result_path;	/* NULL: $, or with discard_result none */
	bool		discard_input;
	bool		discard_output;
	bool		discard_result;
	EvsAslTemplate *parameters; /* or NULL; of a Map: Parameters, the old name of ItemSelector */
	EvsAslTemplate *result_selector;	/* or NULL */
	EvsAslTemplate *assign;		/* or NULL */
	int			nretriers;
	EvsRetrier *retriers;
	int			ncatchers;
	EvsCatcher *catchers;

	/* Task */
	EvsResource resource;
	double		timeout;		/* seconds; 0 = none.  Default 99,999,999 of the language: none. */
	EvsAslPath *timeout_path;
	double		heartbeat;
	EvsAslPath *heartbeat_path;
	EvsCompensator *compensator;	/* or NULL */

	/* Choice */
	int			nchoices;
	EvsChoice  *choices;
	int			default_next;	/* -1 = none */

	/* Wait: one of the four */
	double		seconds;		/* -1 = not this one */
	EvsAslExpression *seconds_path;
	TimestampTz timestamp;		/* DT_NOEND = not this one */
	EvsAslExpression *timestamp_path;

	/* Pass */
	Jsonb	   *result;			/* or NULL */

	/* Fail */
	char	   *error;
	char	   *cause;
	EvsAslExpression *error_path;
	EvsAslExpression *cause_path;

	/* Parallel: branches; Map: one machine */
	int			nbranches;
	EvsMachine **branches;
	EvsAslPath *items_path;		/* or NULL: $ */
	int			max_concurrency;	/* 0 = no limit */
	EvsAslPath *max_concurrency_path;
} EvsSagaState;

struct EvsMachine
{
	int			nstates;
	EvsSagaState *states;
	int			start;			/* -1: not valid */
	double		timeout;		/* seconds; 0 = none */
};

typedef enum EvsOnDeadline
{
	EVS_DEADLINE_COMPENSATE,
	EVS_DEADLINE_FAIL			/* ends timed_out, nothing undone */
} EvsOnDeadline;

/* What a Task or a compensator names, and where: for checks that need the catalog. */
typedef struct EvsResourceUse
{
	const EvsResource *resource;
	char	   *path;			/* JSON path, in the document as it was given */
	bool		compensates;
} EvsResourceUse;

typedef struct EvsSagaDefinition
{
	EvsMachine *machine;
	Jsonb	   *options;		/* as given, or {} */
	List	   *resources;		/* see evs_saga_resources() */
	EvsAslPath *business_key;	/* of the input, or NULL */
	int			priority;		/* 0 first, 9 last; default 5 */
	double		deadline;		/* seconds of an instance, 0 = none; machine TimeoutSeconds counts too */
	EvsOnDeadline on_deadline;
	bool		compensates;	/* on a failure that nothing catches; default true */
	int			max_transitions;	/* of an instance; then it fails with States.Runtime; default 25,000 */
	int			max_data;		/* bytes of a state's input or output; default 262,144 */
	double		retention;		/* seconds after its end that an instance is kept; -1 = for ever, the default */
	int			workers;		/* of this saga at the same time; default 1 */
	bool		durable;		/* transitions wait for the disk; default true */
	double		statement_timeout;	/* seconds, of a SQL or append step; 0 = none; default 60 */
} EvsSagaDefinition;

/* What is wrong with a definition. */
typedef struct EvsSagaProblem
{
	char	   *path;			/* JSON path, such as $.asl.States.Reserve.Next */
	bool		is_error;		/* else a warning */
	char	   *message;		/* "names a state that does not exist" */
} EvsSagaProblem;

/*
 * Compile a definition in the current memory context.  What is wrong is appended to
 * problems, a List of EvsSagaProblem, all of it; NULL if there is an error among it.
 * A document that is bare ASL ({"StartAt", "States"}) or {"steps": […]} is as good as
 * the envelope.
 */
extern EvsSagaDefinition *evs_saga_compile(Jsonb *definition, List **problems);

/* The same, but it throws VS010 for the first error; the DETAIL has all problems. */
extern EvsSagaDefinition *evs_saga_compile_or_throw(Jsonb *definition);

/*
 * The envelope of a definition in any of the three forms, which is valid: with all of its
 * members, so that the same saga gives the same envelope.
 */
extern Jsonb *evs_saga_envelope(Jsonb *definition);

/* A state by its name, or -1. */
extern int	evs_machine_find(const EvsMachine *machine, const char *name);

/* All resources that states and compensators name: a List of EvsResourceUse. */
extern List *evs_saga_resources(const EvsSagaDefinition *definition);

/*
 * What somebody calls a resource, from outside of the definition: one that it names, by its
 * text or name, one of the option resources, or else an activity.  false: it is none of
 * them; what the definition does not name is not run, since it would run as its owner.
 */
extern bool evs_saga_find_resource(const EvsSagaDefinition *definition, const char *text,
								   EvsResource *resource);

/* A diagram in the language of Mermaid or of Graphviz. */
extern char *evs_saga_graph_text(const EvsSagaDefinition *definition, const char *title, bool dot);

/* "sql", "append", ... */
extern const char *evs_resource_kind_name(EvsResourceKind kind);

#endif							/* EVSTORE_SAGA_DEFINITION_H */
