/** PromQL for the eye: which words are what. Whether they make sense is the server's parser to say. */

import { StreamLanguage, type StringStream } from '@codemirror/language';
import { tags } from '@lezer/highlight';

const KEYWORDS = new Set([
  'anchored', 'bool', 'by', 'fill', 'fill_left', 'fill_right', 'group_left', 'group_right', 'ignoring', 'offset', 'on', 'smoothed', 'without',
]);
const OPERATORS = new Set(['and', 'or', 'unless', 'atan2']);
const AGGREGATIONS = new Set([
  'sum', 'avg', 'count', 'min', 'max', 'group', 'stddev', 'stdvar', 'topk', 'bottomk', 'count_values', 'quantile', 'limitk', 'limit_ratio',
]);
/** A list of labels follows in brackets. */
const LISTS = new Set(['by', 'without', 'on', 'ignoring', 'group_left', 'group_right']);
const BORDERS = new Set(['start', 'end']);

interface State {
  /** Open brackets: `(`, `[`, `{`, and `l` for a list of labels. */
  open: string;
  /** Whether a list of labels follows. */
  before: 'list' | '';
  /** Whether a raw string goes on from the line above. */
  raw: boolean;
}

const last = (state: State): string => state.open.at(-1) ?? '';

function rawString(stream: StringStream, state: State): string {
  state.raw = !stream.skipTo('`');
  if (state.raw) stream.skipToEnd();
  else stream.next();
  return 'string';
}

function quoted(stream: StringStream, mark: string): void {
  for (let c = stream.next(); c !== undefined && c !== mark; c = stream.next()) if (c === '\\') stream.next();
}

function word(stream: StringStream, state: State, text: string): string {
  const inside = last(state);
  if (inside === 'l' || inside === '{') return 'labelName';
  const lower = text.toLowerCase();
  const follows = stream.match(/^\s*\(/, false);
  if (LISTS.has(lower)) state.before = 'list';
  if (KEYWORDS.has(lower)) return lower.startsWith('fill') && !follows ? 'variableName' : 'keyword';
  if (OPERATORS.has(lower)) return 'operatorKeyword';
  if (lower === 'inf' || lower === 'nan') return 'number';
  if (AGGREGATIONS.has(lower) && stream.match(/^\s*(\(|by\b|without\b)/i, false)) return 'keyword';
  if (follows) return BORDERS.has(lower) || state.open.includes('[') ? 'keyword' : 'functionName';
  return 'variableName';
}

function token(stream: StringStream, state: State): string | null {
  if (state.raw) return rawString(stream, state);
  if (stream.eatSpace()) return null;
  const before = state.before;
  state.before = '';
  if (stream.match(/^(?:0x[\da-f_]+|\d[\d_]*(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)(?:(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)?(?!\w)/i)) return 'number';
  // In brackets a colon stands between two lengths of time.
  const name = stream.match(state.open.includes('[') || last(state) === '{' ? /^[A-Za-z_]\w*/ : /^[A-Za-z_:][\w:]*/) as RegExpMatchArray | null;
  if (name) return word(stream, state, name[0]);
  const c = stream.next() as string;
  switch (c) {
    case '#':
      stream.skipToEnd();
      return 'comment';
    case '`':
      return rawString(stream, state);
    case '"':
    case "'":
      quoted(stream, c);
      return 'string';
    case '(':
      state.open += before === 'list' ? 'l' : '(';
      return 'paren';
    case '{':
      state.open += c;
      return 'brace';
    case '[':
      state.open += c;
      return 'squareBracket';
    case ')':
    case '}':
    case ']':
      state.open = state.open.slice(0, -1);
      return c === ')' ? 'paren' : c === '}' ? 'brace' : 'squareBracket';
    default:
      return /[-+*/%^=!<>~@]/.test(c) ? 'operator' : null;
  }
}

export const promql = StreamLanguage.define<State>({
  name: 'promql',
  startState: () => ({ open: '', before: '', raw: false }),
  copyState: (state) => ({ ...state }),
  token,
  tokenTable: {
    functionName: tags.function(tags.variableName),
    labelName: tags.labelName,
    operatorKeyword: tags.operatorKeyword,
  },
  languageData: {
    closeBrackets: { brackets: ['(', '[', '{', '"', "'", '`'] },
    commentTokens: { line: '#' },
  },
});
