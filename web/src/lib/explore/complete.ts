/** Completion from the server: its parser knows what may stand at a place, its index which names there are. */

import { insertBracket, insertCompletionText, pickedCompletion, startCompletion, type Completion, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete';
import type { EditorView } from '@codemirror/view';
import type { Proposal, Proposals, Span } from '../api/names';

const MOST = 100;
/** What would not be known from its looks. */
const KIND_SHOWN = new Set<Proposal['kind']>(['metric', 'function', 'aggregation', 'stage', 'field']);

export interface CompletionOptions {
  /** Asks the server what may stand at a place of a text. */
  ask(text: string, pos: number, options: { span: Span; language: string; limit: number; signal: AbortSignal }): Promise<Proposals>;
  /** The times that names are looked for in. */
  span(): Span;
  language(): string;
  /** What a proposal is, for people. */
  kind(kind: Proposal['kind']): string;
  unit(unit: string): string;
}

/** Whether something is being written at the end of `before` that can be completed; asking for it with a key always works. */
export const invites = (before: string): boolean => /(?:[\w:.]|[({["'`,=~|]|[,|] )$/.test(before) && !/(?:^|[^\w.])[\d.]+(?:e\d*)?$/i.test(before.replace(/\[[^\]]*$/, '['));

/** Where the letters of `word` are found in `label`, as pairs of places, in order and as close together as the beginning allows. */
export function matched(label: string, word: string): number[] {
  const [text, wanted] = [label.toLowerCase(), word.toLowerCase()];
  if (wanted === '') return [];
  const whole = text.indexOf(wanted);
  if (whole >= 0) return [whole, whole + wanted.length];
  const places: number[] = [];
  let at = 0;
  for (const letter of wanted) {
    const next = text.indexOf(letter, at);
    if (next < 0) return places;
    if (places.at(-1) === next) places[places.length - 1] = next + letter.length;
    else places.push(next, next + letter.length);
    at = next + letter.length;
  }
  return places;
}

/** Puts a proposal in; brackets come in pairs, and what surely follows is proposed at once. */
function apply(proposal: Proposal) {
  return (view: EditorView, completion: Completion, from: number, to: number): void => {
    const { insert, kind } = proposal;
    const opens = insert.endsWith('(');
    const text = opens ? insert.slice(0, -1) : insert;
    view.dispatch({ ...insertCompletionText(view.state, text, from, to), annotations: pickedCompletion.of(completion) });
    const bracket = opens ? insertBracket(view.state, '(') : null;
    if (bracket) view.dispatch(bracket);
    else if (opens) view.dispatch(view.state.replaceSelection('('));
    const { head } = view.state.selection.main;
    // A value that is written is done with; the quotation goes on behind it.
    if (kind === 'value' && /["'`]/.test(view.state.sliceDoc(head, head + 1))) view.dispatch({ selection: { anchor: head + 1 } });
    if (opens || /[={]$/.test(insert)) startCompletion(view);
  };
}

function describe(proposal: Proposal, options: CompletionOptions): () => Node {
  return () => {
    const box = document.createElement('div');
    const add = (tag: string, name: string, text: string): void => {
      const part = document.createElement(tag);
      part.className = name;
      part.textContent = text;
      box.append(part);
    };
    const isCall = proposal.kind === 'function' || proposal.kind === 'aggregation';
    const kind = options.kind(proposal.kind);
    add('div', 'wf-kind', [kind, isCall ? '' : proposal.detail, proposal.unit ? options.unit(proposal.unit) : ''].filter(Boolean).join(' · '));
    if (isCall) add('code', 'wf-signature', `${proposal.label}${proposal.detail ?? ''}`);
    if (proposal.help) add('p', 'wf-help', proposal.help);
    return box;
  };
}

/** A source of completions that asks the server for every place, and no longer than the place is of interest. */
export const completionSource =
  (options: CompletionOptions) =>
  async (context: CompletionContext): Promise<CompletionResult | null> => {
    const text = context.state.doc.toString();
    if (!context.explicit && !invites(text.slice(0, context.pos))) return null;
    const abort = new AbortController();
    context.addEventListener('abort', () => abort.abort(), { onDocChange: true });
    try {
      const found = await options.ask(text, context.pos, { span: options.span(), language: options.language(), limit: MOST, signal: abort.signal });
      const written = text.slice(found.from, context.pos);
      // What stands there already needs no proposal.
      if (found.items.length === 0 || (found.items.length === 1 && found.items[0]?.label === written && !context.explicit)) return null;
      return {
        from: found.from,
        to: found.to,
        filter: false,
        options: found.items.map((item) => ({
          label: item.label,
          ...(KIND_SHOWN.has(item.kind) ? { detail: item.kind === 'metric' ? (item.detail ?? '') : options.kind(item.kind) } : {}),
          ...(item.help || item.detail ? { info: describe(item, options) } : {}),
          apply: apply(item),
        })),
        getMatch: (completion) => matched(completion.label, written),
      };
    } catch {
      // Completion is a nicety: who writes goes on writing.
      return null;
    }
  };
