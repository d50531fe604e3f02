/** CodeMirror as an editor of queries: our colours, our completion source, the server's own parser as linter. */

import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { bracketMatching, HighlightStyle, syntaxHighlighting } from '@codemirror/language';
import { linter, lintKeymap, setDiagnostics, type Diagnostic } from '@codemirror/lint';
import { Compartment, EditorState, Prec, type Extension } from '@codemirror/state';
import { EditorView, keymap, placeholder } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import { ApiError, errorPosition, withoutPosition } from '../api/client';
import { completionSource, type CompletionOptions } from './complete';

/** Colours are custom properties, so one style serves both themes. */
export const highlight = HighlightStyle.define([
  { tag: tags.name, color: 'var(--text)' },
  { tag: tags.variableName, color: 'var(--code-metric)' },
  { tag: tags.labelName, color: 'var(--code-label)' },
  { tag: tags.string, color: 'var(--code-string)' },
  { tag: tags.number, color: 'var(--code-number)' },
  { tag: tags.function(tags.variableName), color: 'var(--code-function)' },
  { tag: tags.keyword, color: 'var(--code-keyword)', fontWeight: '600' },
  { tag: tags.operatorKeyword, color: 'var(--code-keyword)', fontWeight: '600' },
  { tag: tags.modifier, color: 'var(--code-keyword)' },
  { tag: tags.operator, color: 'var(--muted)' },
  { tag: tags.paren, color: 'var(--muted)' },
  { tag: tags.brace, color: 'var(--muted)' },
  { tag: tags.squareBracket, color: 'var(--muted)' },
  { tag: tags.comment, color: 'var(--faint)', fontStyle: 'italic' },
  { tag: tags.invalid, color: 'var(--bad)' },
]);

export const look = EditorView.theme({
  '&': { fontSize: '13px', color: 'var(--text)', backgroundColor: 'transparent' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.6', maxHeight: '220px' },
  '.cm-content': { padding: '5px 0', caretColor: 'var(--text)' },
  '.cm-line': { padding: '0 10px' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '&.cm-focused > .cm-scroller .cm-selectionBackground, .cm-selectionBackground, ::selection': {
    background: 'color-mix(in srgb, var(--accent) 26%, transparent) !important',
  },
  '.cm-placeholder': { color: 'var(--faint)', fontFamily: 'var(--font)' },
  '.cm-matchingBracket, &.cm-focused .cm-matchingBracket': {
    backgroundColor: 'transparent',
    outline: '1px solid var(--border-strong)',
    color: 'inherit',
  },
  '.cm-tooltip': {
    border: '1px solid var(--border-strong)',
    borderRadius: '6px',
    backgroundColor: 'var(--surface)',
    color: 'var(--text)',
    boxShadow: 'var(--shadow)',
    overflow: 'hidden',
  },
  // What explains a proposal stands beside the list.
  '.cm-tooltip.cm-tooltip-autocomplete': { overflow: 'visible' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul': { fontFamily: 'var(--mono)', fontSize: '12px', maxHeight: '280px' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul > li': { padding: '3px 10px 3px 6px', lineHeight: '1.5' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul > li[aria-selected]': {
    backgroundColor: 'var(--hover)',
    color: 'var(--text)',
  },
  '.cm-completionMatchedText': { textDecoration: 'none', color: 'var(--accent)', fontWeight: '600' },
  // On the ground of what is chosen the accent is too faint.
  'li[aria-selected] .cm-completionMatchedText': { color: 'var(--text)', textDecoration: 'underline' },
  '.cm-completionDetail': { marginLeft: '14px', color: 'var(--muted)', fontStyle: 'normal', fontFamily: 'var(--font)' },
  '.cm-tooltip.cm-completionInfo': { padding: '8px 10px', width: 'max-content', maxWidth: 'min(360px, 80vw)', color: 'var(--muted)', fontFamily: 'var(--font)', fontSize: '12px', lineHeight: '1.5' },
  // On a telephone there is no room beside the list, and over it nobody could choose.
  '@media (max-width: 620px)': { '.cm-tooltip.cm-completionInfo': { display: 'none' } },
  '.wf-kind': { color: 'var(--muted)' },
  '.wf-signature': { display: 'block', marginTop: '3px', color: 'var(--text)', overflowWrap: 'anywhere' },
  '.wf-help': { margin: '5px 0 0', color: 'var(--text)' },
  '.cm-completionIcon': { color: 'var(--muted)', opacity: '1' },
  '.cm-diagnostic': { padding: '6px 10px', fontFamily: 'var(--font)', fontSize: '12px' },
  '.cm-diagnostic-error': { borderLeft: '3px solid var(--bad)' },
});

export interface QueryEditor {
  text(): string;
  setText(text: string): void;
  /** Puts text where the cursor is. */
  insert(text: string): void;
  focus(): void;
  /** Underlines where the server saw the error; an empty message clears it. */
  showError(message: string): void;
  setHint(text: string): void;
  destroy(): void;
}

export interface EditorOptions {
  parent: HTMLElement;
  text: string;
  label: string;
  hint: string;
  /** Colours of the language. */
  language: Extension;
  complete: CompletionOptions;
  /** Fails with the parser's error if the text is no query. */
  parse(text: string): Promise<unknown>;
  changed(text: string): void;
  submit(): void;
}

/** Turns an error of the API into a mark in the text, from the position named to the end of that word. */
export function diagnose(text: string, message: string): Diagnostic[] {
  if (message === '') return [];
  const position = errorPosition(message);
  const clean = withoutPosition(message);
  if (!position) return text === '' ? [] : [{ from: 0, to: text.length, severity: 'error', message: clean }];
  const lines = text.split('\n');
  const before = lines.slice(0, position.line - 1).reduce((length, line) => length + line.length + 1, 0);
  const start = Math.min(before + position.column - 1, text.length);
  const word = /^[\w:]+/.exec(text.slice(start))?.[0].length ?? 1;
  const to = Math.min(start + word, text.length);
  // At the end of the text there is nothing to underline but the last character.
  return [{ from: to > start ? start : Math.max(0, start - 1), to, severity: 'error', message: clean }];
}

/** The error of the last run, which stands while the text does; and the parser's word on what is being typed. */
const check = (parse: EditorOptions['parse'], lastError: () => { text: string; message: string }) => linter(
  async (view): Promise<Diagnostic[]> => {
    const text = view.state.doc.toString();
    if (text.trim() === '') return [];
    if (text === lastError().text) return diagnose(text, lastError().message);
    try {
      await parse(text);
      return [];
    } catch (error) {
      const isParseError = error instanceof ApiError && error.type === 'bad_data' && errorPosition(error.message) !== null;
      return isParseError ? diagnose(text, error.message) : [];
    }
  },
  { delay: 600 },
);

export function createEditor(options: EditorOptions): QueryEditor {
  const hint = new Compartment();
  let lastError = { text: '', message: '' };
  const submit = () => {
    options.submit();
    return true;
  };
  const view = new EditorView({
    parent: options.parent,
    state: EditorState.create({
      doc: options.text,
      extensions: [
        history(),
        bracketMatching(),
        closeBrackets(),
        autocompletion({
          override: [completionSource(options.complete)],
          icons: false,
          activateOnTypingDelay: 120,
        }),
        options.language,
        syntaxHighlighting(highlight),
        check((text) => options.parse(text), () => lastError),
        look,
        EditorView.lineWrapping,
        hint.of(placeholder(options.hint)),
        EditorView.contentAttributes.of({ 'aria-label': options.label }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) options.changed(update.state.doc.toString());
        }),
        Prec.highest(
          keymap.of([
            { key: 'Mod-Enter', run: submit, preventDefault: true },
            { key: 'Tab', run: acceptCompletion },
            { key: 'Escape', run: (target) => (target.contentDOM.blur(), false) },
          ]),
        ),
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap]),
      ],
    }),
  });
  return {
    text: () => view.state.doc.toString(),
    setText(text) {
      if (text !== view.state.doc.toString()) {
        view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text }, selection: { anchor: text.length } });
      }
    },
    insert(text) {
      view.dispatch(view.state.replaceSelection(text));
      view.focus();
    },
    focus: () => view.focus(),
    showError(message) {
      lastError = message === '' ? { text: '', message: '' } : { text: view.state.doc.toString(), message };
      view.dispatch(setDiagnostics(view.state, diagnose(lastError.text, message)));
    },
    setHint: (text) => view.dispatch({ effects: hint.reconfigure(placeholder(text)) }),
    destroy: () => view.destroy(),
  };
}
