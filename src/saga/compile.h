/*
 * compile.h
 *	  What the compilers of a definition's parts have in common: fields, and problems.
 *
 * All forms of a definition are compiled as an envelope; paths of problems are those of
 * the document as it was given.
 */
#ifndef EVSTORE_SAGA_COMPILE_H
#define EVSTORE_SAGA_COMPILE_H

#include "filter/compile.h"
#include "saga/definition.h"

/* Longest name of a state, in characters: the language's. */
#define EVS_STATE_NAME_MAX		80

/* Longest time-out of the language, in seconds: more than three years. */
#define EVS_ASL_SECONDS_MAX		99999999

/* Of a Map state. */
#define EVS_MAX_CONCURRENCY		1000000

typedef enum EvsSagaForm
{
	EVS_FORM_ENVELOPE,			/* {"asl", "compensation", "options"} */
	EVS_FORM_ASL,				/* {"StartAt", "States"} */
	EVS_FORM_STEPS,				/* {"steps", "options"} */
	EVS_FORM_NONE
} EvsSagaForm;

/* A value in the document, and where it is: a member of, or an element in, what is up. */
typedef struct EvsPart
{
	const struct EvsPart *up;	/* NULL: the document itself */
	const char *key;			/* NULL: an element */
	int			index;
	JsonbValue	value;
} EvsPart;

/* A state of any machine of the document. */
typedef struct EvsNamedState
{
	EvsSagaState *state;
	char	   *path;
} EvsNamedState;

typedef struct EvsCompiler
{
	EvsSagaForm form;			/* of what is compiled now; while it is made
								 * from the given one, an envelope */
	Jsonb	   *given;
	List	  **problems;
	bool		failed;			/* there is an error among them */
	EvsSagaDefinition *definition;
	EvsPart		resources;		/* option resources; jbvNull if it is not
								 * there */
	List	   *used;			/* keys of it that states use */
	List	   *states;			/* of EvsNamedState */
} EvsCompiler;

/* ---- problems: compile.c ---- */

extern char *evs_part_path_text(const EvsCompiler *compiler, const EvsPart *field);
extern void evs_compile_error(EvsCompiler *compiler, const EvsPart *field, const char *format,...)
			pg_attribute_printf(3, 4);
extern void evs_compile_warning(EvsCompiler *compiler, const EvsPart *field, const char *format,...)
			pg_attribute_printf(3, 4);

/* The same where there is a path already. */
extern void evs_compile_error_at(EvsCompiler *compiler, char *path, char *message);

/* A member that should be there is not. */
extern void evs_compile_missing(EvsCompiler *compiler, const EvsPart *object, const char *key);

/* ---- fields: part.c ---- */

extern EvsPart evs_part_root(Jsonb *document);
extern bool evs_part_get(const EvsPart *object, const char *key, EvsPart *member);
extern bool evs_part_has(const EvsPart *object, const char *key);

/* Go through an object or an array: false at its end. */
extern bool evs_part_next(EvsEach *each, const EvsPart *parent, EvsPart *child);
extern void evs_part_begin(EvsEach *each, const EvsPart *parent);

/* The number of its elements, or members. */
extern int	evs_part_count(const EvsPart *field);

extern bool evs_part_is_null(const EvsPart *field);
extern bool evs_part_is_object(const EvsPart *field);

/* The value if it is as it should be; else the problem is reported. */
extern bool evs_part_object(EvsCompiler *compiler, const EvsPart *field);
extern bool evs_part_array(EvsCompiler *compiler, const EvsPart *field, bool may_be_empty);
extern char *evs_part_string(EvsCompiler *compiler, const EvsPart *field);
extern bool evs_part_bool(EvsCompiler *compiler, const EvsPart *field, bool *value);
extern bool evs_part_number(EvsCompiler *compiler, const EvsPart *field,
							double low, double high, double *value);
extern bool evs_part_whole(EvsCompiler *compiler, const EvsPart *field,
						   int64 low, int64 high, int64 *value);

/* A number of seconds, or an interval as text. */
extern bool evs_part_seconds(EvsCompiler *compiler, const EvsPart *field,
							 double low, double high, double *value);

/* One of the words, which end with NULL: its index, or -1. */
extern int	evs_part_word(EvsCompiler *compiler, const EvsPart *field, const char *const *words);

/* Each member must be one of these. */
extern void evs_part_only(EvsCompiler *compiler, const EvsPart *object, const char *const *known);

extern Jsonb *evs_part_json(const EvsPart *field);

/* Parts of the language; NULL if there is something wrong with it. */
extern EvsAslPath *evs_part_path(EvsCompiler *compiler, const EvsPart *field);
extern EvsAslPath *evs_part_definite_path(EvsCompiler *compiler, const EvsPart *field);
extern EvsAslPath *evs_part_reference_path(EvsCompiler *compiler, const EvsPart *field);
extern EvsAslExpression *evs_part_expression(EvsCompiler *compiler, const EvsPart *field);
extern EvsAslTemplate *evs_part_template(EvsCompiler *compiler, const EvsPart *field);
extern EvsAslTemplate *evs_part_assign(EvsCompiler *compiler, const EvsPart *field);
extern EvsAslRule *evs_part_rule(EvsCompiler *compiler, const EvsPart *field);

/* ---- parts ---- */

typedef enum EvsMachineKind
{
	EVS_MACHINE_ROOT,
	EVS_MACHINE_BRANCH,			/* of a Parallel state */
	EVS_MACHINE_ITEM			/* of a Map state */
} EvsMachineKind;

/* states.c: a machine and those within its states; NULL if it is none. */
extern EvsMachine *evs_compile_machine(EvsCompiler *compiler, const EvsPart *field, EvsMachineKind kind);

/* The state of the machine that the field names; -1: there is none, which is reported. */
extern int	evs_compile_target(EvsCompiler *compiler, const EvsMachine *machine, const EvsPart *field);

extern void evs_compile_query_language(EvsCompiler *compiler, const EvsPart *object);

/* state.c, container.c (Parallel and Map) */
extern void evs_compile_state(EvsCompiler *compiler, const EvsMachine *machine, const EvsPart *field,
							  EvsSagaState *state);
extern void evs_compile_parallel(EvsCompiler *compiler, const EvsPart *field, EvsSagaState *state);
extern void evs_compile_map(EvsCompiler *compiler, const EvsPart *field, EvsSagaState *state);

/* choice_label.c: a rule in short. */
extern char *evs_rule_label(const EvsPart *rule);

/* retry.c: an array of retriers, of catchers. */
extern EvsRetrier *evs_compile_retry(EvsCompiler *compiler, const EvsPart *field, int *n);
extern EvsCatcher *evs_compile_catch(EvsCompiler *compiler, const EvsMachine *machine,
									 const EvsPart *field, int *n);
extern char **evs_compile_errors(EvsCompiler *compiler, const EvsPart *field, int *n);

/* Is it none of those that the language keeps for itself, or one that it has? */
extern bool evs_error_name_is_valid(const char *name);

/* resource.c: false if there is something wrong with it. */
extern bool evs_compile_resource(EvsCompiler *compiler, const EvsPart *field, EvsResource *resource);
extern void evs_compile_use(EvsCompiler *compiler, const EvsPart *field, const EvsResource *resource,
							bool compensates);
extern void evs_compile_resource_option(EvsCompiler *compiler);

/* compensator.c, options.c: the parts of an envelope; NULL: it is not there. */
extern void evs_compile_compensation(EvsCompiler *compiler, const EvsPart *field);
extern void evs_compile_options(EvsCompiler *compiler, const EvsPart *field);

/* check.c: of what is compiled. */
extern void evs_check_machine(EvsCompiler *compiler, const EvsMachine *machine, const EvsPart *states);
extern void evs_check_names(EvsCompiler *compiler);

/* steps.c: {"steps"} as an envelope; NULL: what is wrong has been reported. */
extern Jsonb *evs_steps_envelope(EvsCompiler *compiler, Jsonb *definition);

/* Its members are those that steps may have: what it is called in the Task that it becomes. */
extern const char *evs_step_member(const char *field);

/* definition.c: an envelope with all of its members. */
extern Jsonb *evs_envelope_build(Jsonb *asl, Jsonb *compensation, Jsonb *options);

#endif							/* EVSTORE_SAGA_COMPILE_H */
