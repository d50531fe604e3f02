/** CodeMirror as an editor of groups of rules and of templates: their words for the eye, and the server's faults at their places. */

import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { indentUnit, StreamLanguage, syntaxHighlighting } from '@codemirror/language';
import { lintGutter, setDiagnostics, type Diagnostic } from '@codemirror/lint';
import { EditorState } from '@codemirror/state';
import { EditorView, keymap, lineNumbers } from '@codemirror/view';
import type { RuleFault } from '../api/alerting';
import { highlight, look } from '../explore/editor';

/** What stands on a line: keys, texts in quotes, comments. What a block holds looks like plain text. */
const yaml = StreamLanguage.define<null>({
  token(stream) {
    if (stream.eatSpace()) return null;
    if (stream.match(/^#.*/)) return 'comment';
    if (stream.match(/^-(?=\s|$)/)) return 'operator';
    if (stream.match(/^[\w.-]+(?=\s*:(?:\s|$))/)) return 'keyword';
    if (stream.match(/^"(?:[^"\\]|\\.)*"|^'(?:[^']|'')*'/)) return 'string';
    stream.match(/^\S+/);
    return null;
  },
});

/** What templates do stands in braces; the rest is text. */
const template = StreamLanguage.define<{ isAction: boolean }>({
  startState: () => ({ isAction: false }),
  token(stream, state) {
    if (!state.isAction) {
      if (stream.match('{{')) {
        state.isAction = true;
        return 'operator';
      }
      if (!stream.skipTo('{{')) stream.skipToEnd();
      return null;
    }
    if (stream.eatSpace()) return null;
    if (stream.match(/^-?\}\}/)) {
      state.isAction = false;
      return 'operator';
    }
    if (stream.match(/^\/\*.*?(\*\/|$)/)) return 'comment';
    if (stream.match(/^"(?:[^"\\]|\\.)*"|^`[^`]*`/)) return 'string';
    if (stream.match(/^(?:range|if|else|end|with|define|template|block|break|continue|and|or|not)\b/)) return 'keyword';
    if (stream.match(/^\$\w*/)) return 'variableName';
    if (stream.match(/^\.\w*/)) return 'labelName';
    if (stream.match(/^-?\d[\w.]*/)) return 'number';
    if (stream.match(/^\w+/)) return 'variableName.function';
    stream.next();
    return 'operator';
  },
});

const GRAMMARS = { yaml, template };
const HEIGHTS = { yaml: ['300px', '520px'], template: ['190px', '340px'] } as const;

const gutters = EditorView.theme({
  '.cm-gutters': { border: '0', backgroundColor: 'transparent', color: 'var(--faint)' },
  '.cm-activeLineGutter': { backgroundColor: 'transparent' },
});

/** A fault that may tell how many characters it is about; else it is the rest of its line. */
export type EditorFault = RuleFault & { length?: number };

export interface TextEditor {
  text(): string;
  setText(text: string): void;
  showFaults(faults: readonly EditorFault[]): void;
  focus(): void;
  destroy(): void;
}

export interface TextEditorOptions {
  grammar: keyof typeof GRAMMARS;
  parent: HTMLElement;
  text: string;
  label: string;
  /** Told of each change of the text, and of the line of the cursor, from 1. */
  changed(text: string, line: number): void;
  submit?(): void;
}

/** From the place of a fault to its end or that of its line, and at least one character. */
export function markOf(text: string, { line, column, message, help, length }: EditorFault): Diagnostic {
  const lines = text.split('\n');
  const at = Math.min(Math.max(line, 1), lines.length);
  const before = lines.slice(0, at - 1).reduce((sum, each) => sum + each.length + 1, 0);
  const own = lines[at - 1] ?? '';
  // Columns count characters, and the text is of UTF-16.
  const unitsOf = (characters: number): number => [...own].slice(0, Math.max(characters, 0)).join('').length;
  const start = line === 0 ? 0 : unitsOf(column - 1);
  const from = before + Math.min(start, Math.max(own.length - 1, 0));
  const end = length === undefined ? own.length : unitsOf(column - 1 + length);
  return { from, to: Math.max(before + end, from), severity: 'error', message: help === null ? message : `${message}\n${help}` };
}

export function createTextEditor(options: TextEditorOptions): TextEditor {
  const lineOf = (state: EditorState): number => state.doc.lineAt(state.selection.main.head).number;
  const submit = () => {
    options.submit?.();
    return true;
  };
  const view = new EditorView({
    parent: options.parent,
    state: EditorState.create({
      doc: options.text,
      extensions: [
        history(),
        lineNumbers(),
        lintGutter(),
        GRAMMARS[options.grammar],
        syntaxHighlighting(highlight),
        indentUnit.of('  '),
        gutters,
        EditorView.theme({ '.cm-scroller': { minHeight: HEIGHTS[options.grammar][0], maxHeight: HEIGHTS[options.grammar][1] } }),
        EditorView.lineWrapping,
        look,
        EditorView.contentAttributes.of({ 'aria-label': options.label, spellcheck: 'false' }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged || update.selectionSet) options.changed(update.state.doc.toString(), lineOf(update.state));
        }),
        keymap.of([
          { key: 'Mod-Enter', run: submit, preventDefault: true },
          { key: 'Mod-s', run: submit, preventDefault: true },
          // Whoever has no mouse leaves by Escape, then Tab.
          { key: 'Escape', run: (target) => (target.contentDOM.blur(), false) },
          indentWithTab,
          ...defaultKeymap,
          ...historyKeymap,
        ]),
      ],
    }),
  });
  return {
    text: () => view.state.doc.toString(),
    setText: (text) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } }),
    showFaults(faults) {
      const text = view.state.doc.toString();
      view.dispatch(setDiagnostics(view.state, faults.map((fault) => markOf(text, fault))));
    },
    focus: () => view.focus(),
    destroy: () => view.destroy(),
  };
}
