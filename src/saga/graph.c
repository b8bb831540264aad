/*
 * graph.c
 *	  Definitions as diagrams: Mermaid's stateDiagram-v2, or Graphviz' DOT.
 *
 * States are called s1, s2, ... in the order in which they are reached: their names may
 * have any characters, and are labels.  What follows for an error has the names of the
 * errors on its edge; compensators are dashed.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/json.h"

#include "saga/definition.h"
#include "compat.h"

typedef struct Graph
{
	StringInfoData buf;
	bool		dot;
	int			depth;
	int			nstates;		/* that have a number */
	int			nends;			/* DOT: a point for the end of each machine */
} Graph;

/* A machine that is being drawn. */
typedef struct Drawing
{
	Graph	   *graph;
	const EvsMachine *machine;
	int		   *ids;			/* of its states; 0: none yet */
	int		   *order;			/* as they are reached */
	int			nreached;
	int			end;			/* DOT: the number of the point */
} Drawing;

static void draw_machine(Graph *graph, const EvsMachine *machine, int container);

/* ---- text ---- */

static void
begin_line(Graph *graph)
{
	for (int i = 0; i < graph->depth; i++)
		appendStringInfoChar(&graph->buf, '\t');
}

/*
 * Mermaid has entities for what means something to it: more of that in the label of an
 * edge, which is not quoted.  DOT has \.
 */
static void
append_label(Graph *graph, const char *text, bool is_quoted)
{
	const char *special = is_quoted ? "\"#<>&" : "\"#<>&:;{}[]";

	for (; *text !='\0'; text ++)
	{
		if ((unsigned char) *text <' ' || *text == 0x7f)
			appendStringInfoChar(&graph->buf, ' ');
		else if (graph->dot && (*text == '"' || *text == '\\'))
			appendStringInfo(&graph->buf, "\\%c", *text);
		else if (!graph->dot && strchr(special, *text) != NULL)
			appendStringInfo(&graph->buf, "#%d;", *text);
		else
			appendStringInfoChar(&graph->buf, *text);
	}
}

static void
append_state(Graph *graph, int id, const char *label, const char *attributes)
{
	begin_line(graph);
	appendStringInfo(&graph->buf, graph->dot ? "s%d [label=\"" : "state \"", id);
	append_label(graph, label, true);
	if (graph->dot)
		appendStringInfo(&graph->buf, "\"%s]\n", attributes);
	else
		appendStringInfo(&graph->buf, "\" as s%d\n", id);
}

/* An edge between two that have numbers; 0 is the beginning, or the end. */
static void
append_edge(Drawing *drawing, int from, int to, const char *label, const char *attributes)
{
	Graph	   *graph = drawing->graph;
	StringInfo	buf = &graph->buf;

	begin_line(graph);
	if (from == 0)
		appendStringInfoString(buf, graph->dot ? "begin" : "[*]");
	else
		appendStringInfo(buf, "s%d", from);
	appendStringInfoString(buf, graph->dot ? " -> " : " --> ");
	if (to == 0)
		appendStringInfo(buf, graph->dot ? "end%d" : "[*]", drawing->end);
	else
		appendStringInfo(buf, "s%d", to);
	if (graph->dot && (label != NULL || *attributes != '\0'))
	{
		appendStringInfoString(buf, " [label=\"");
		append_label(graph, label != NULL ? label : "", true);
		appendStringInfo(buf, "\"%s]", attributes);
	}
	else if (label != NULL)
	{
		appendStringInfoString(buf, ": ");
		append_label(graph, label, false);
	}
	appendStringInfoChar(buf, '\n');
}

/* ---- the order ---- */

static void
reach(Drawing *drawing, int state)
{
	if (state < 0 || drawing->ids[state] != 0)
		return;
	drawing->ids[state] = ++drawing->graph->nstates;
	drawing->order[drawing->nreached++] = state;
}

static void
reach_all(Drawing *drawing)
{
	reach(drawing, drawing->machine->start);
	for (int i = 0; i < drawing->nreached; i++)
	{
		const EvsSagaState *state = &drawing->machine->states[drawing->order[i]];

		for (int j = 0; j < state->nchoices; j++)
			reach(drawing, state->choices[j].next);
		reach(drawing, state->default_next);
		reach(drawing, state->next);
		for (int j = 0; j < state->ncatchers; j++)
			reach(drawing, state->catchers[j].next);
	}
}

/* ---- states ---- */

/* By EvsStateType. */
static const char *const shapes[] = {
	[EVS_STATE_TASK] = "",[EVS_STATE_CHOICE] = ", shape=diamond",[EVS_STATE_WAIT] = ", style=\"rounded,dotted\"",
	[EVS_STATE_PASS] = "",[EVS_STATE_SUCCEED] = "",[EVS_STATE_FAIL] = ", style=\"rounded,bold\"",
	[EVS_STATE_PARALLEL] = "",[EVS_STATE_MAP] = "",
};

static const char *
label_of(const EvsSagaState *state)
{
	if (state->type == EVS_STATE_MAP)
		return psprintf("%s (each item)", state->name);
	if (state->compensator != NULL && state->compensator->pivot)
		return psprintf("%s (pivot)", state->name);
	return state->name;
}

/* Parallel, Map: what is within. */
static void
draw_container(Graph *graph, const EvsSagaState *state, int id)
{
	if (!graph->dot)
		append_state(graph, id, label_of(state), "");
	begin_line(graph);
	appendStringInfo(&graph->buf, graph->dot ? "subgraph cluster_%d {\n" : "state s%d {\n", id);
	graph->depth++;
	if (graph->dot)
		append_state(graph, id, label_of(state), shapes[state->type]);
	for (int i = 0; i < state->nbranches; i++)
	{
		if (i > 0 && !graph->dot)
		{
			begin_line(graph);
			appendStringInfoString(&graph->buf, "--\n");
		}
		draw_machine(graph, state->branches[i], id);
	}
	graph->depth--;
	begin_line(graph);
	appendStringInfoString(&graph->buf, "}\n");
}

static void
draw_states(Drawing *drawing)
{
	for (int i = 0; i < drawing->nreached; i++)
	{
		const EvsSagaState *state = &drawing->machine->states[drawing->order[i]];
		int			id = drawing->ids[drawing->order[i]];

		if (state->nbranches > 0)
			draw_container(drawing->graph, state, id);
		else
			append_state(drawing->graph, id, label_of(state), shapes[state->type]);
	}
}

/* ---- edges ---- */

static char *
join(int n, char *const *words)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
		appendStringInfo(&buf, "%s%s", i == 0 ? "" : ", ", words[i]);
	return buf.data;
}

static void
draw_end(Drawing *drawing, const EvsSagaState *state, int id)
{
	if (state->type == EVS_STATE_FAIL)
		append_edge(drawing, id, 0, state->error == NULL ? "fails" : psprintf("fails: %s", state->error), "");
	else
		append_edge(drawing, id, 0, NULL, "");
}

static void
draw_compensator(Drawing *drawing, const EvsSagaState *state, int id)
{
	Graph	   *graph = drawing->graph;
	int			compensator = ++graph->nstates;

	append_state(graph, compensator, state->compensator->resource.text, ", style=\"rounded,dashed\"");
	if (!graph->dot)
	{
		begin_line(graph);
		appendStringInfo(&graph->buf, "class s%d compensator\n", compensator);
	}
	append_edge(drawing, id, compensator, "compensated by", ", style=dashed");
}

static void
draw_edges(Drawing *drawing, const EvsSagaState *state, int id)
{
	for (int i = 0; i < state->nchoices; i++)
		append_edge(drawing, id, drawing->ids[state->choices[i].next], state->choices[i].label, "");
	if (state->default_next >= 0)
		append_edge(drawing, id, drawing->ids[state->default_next], "default", "");
	if (state->next >= 0)
		append_edge(drawing, id, drawing->ids[state->next], NULL, "");
	else if (state->type != EVS_STATE_CHOICE)
		draw_end(drawing, state, id);
	for (int i = 0; i < state->ncatchers; i++)
		append_edge(drawing, id, drawing->ids[state->catchers[i].next],
					psprintf("catch %s", join(state->catchers[i].nerrors, state->catchers[i].errors)), "");
	if (state->compensator != NULL && state->compensator->has_resource)
		draw_compensator(drawing, state, id);
}

static void
draw_end_point(Drawing *drawing)
{
	Graph	   *graph = drawing->graph;

	drawing->end = ++graph->nends;
	begin_line(graph);
	appendStringInfo(&graph->buf, "end%d [label=\"\", shape=doublecircle, width=0.15]\n", drawing->end);
}

static void
draw_machine(Graph *graph, const EvsMachine *machine, int container)
{
	Drawing		drawing = {graph, machine};

	check_stack_depth();
	drawing.ids = palloc0(sizeof(int) * machine->nstates);
	drawing.order = palloc(sizeof(int) * machine->nstates);
	reach_all(&drawing);
	if (graph->dot)
		draw_end_point(&drawing);
	draw_states(&drawing);
	/* in DOT, a machine within a state begins at that state */
	append_edge(&drawing, graph->dot ? container : 0, drawing.ids[machine->start], NULL, "");
	for (int i = 0; i < drawing.nreached; i++)
		draw_edges(&drawing, &machine->states[drawing.order[i]], drawing.ids[drawing.order[i]]);
}

/* ---- the diagram ---- */

char *
evs_saga_graph_text(const EvsSagaDefinition *definition, const char *title, bool dot)
{
	Graph		graph = {.dot = dot, .depth = 1};

	initStringInfo(&graph.buf);
	if (dot)
	{
		appendStringInfoString(&graph.buf, "digraph \"");
		append_label(&graph, title, true);
		appendStringInfoString(&graph.buf, "\" {\n\tnode [shape=box, style=rounded]\n\tbegin [shape=point]\n");
	}
	else
	{
		appendStringInfoString(&graph.buf, "---\ntitle: ");
		escape_json(&graph.buf, title);
		appendStringInfoString(&graph.buf, "\n---\nstateDiagram-v2\n\tclassDef compensator stroke-dasharray: 5 5\n");
	}
	draw_machine(&graph, definition->machine, 0);
	if (dot)
		appendStringInfoString(&graph.buf, "}\n");
	return graph.buf.data;
}
