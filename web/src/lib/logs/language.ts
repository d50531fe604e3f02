/** LogQL for the eye: which words are what. Whether they make sense is the server's parser to say. */

import { StreamLanguage, type StringStream } from '@codemirror/language';
import { tags } from '@lezer/highlight';

const CLAUSES = new Set(['by', 'without', 'on', 'ignoring', 'group_left', 'group_right']);
const KEYWORDS = new Set([...CLAUSES, 'bool', 'offset', 'or', 'and', 'unless']);
const STAGES = new Set(['json', 'logfmt', 'regexp', 'pattern', 'unpack', 'unwrap', 'line_format', 'label_format', 'decolorize', 'drop', 'keep']);
const AGGREGATIONS = new Set(['sum', 'avg', 'count', 'min', 'max', 'stddev', 'stdvar', 'topk', 'bottomk', 'approx_topk', 'sort', 'sort_desc']);

interface State {
  /** The mark of a quotation that goes on. */
  quote: string;
  /** Whether a `|` was read last, so that a stage may follow. */
  isPiped: boolean;
}

function quotation(stream: StringStream, state: State): string {
  for (let c = stream.next(); c !== undefined; c = stream.next()) {
    if (c === state.quote) {
      state.quote = '';
      break;
    }
    if (c === '\\' && state.quote !== '`') stream.next();
  }
  // Only this one goes over the end of a line.
  if (state.quote !== '`') state.quote = '';
  return 'string';
}

function token(stream: StringStream, state: State): string | null {
  if (state.quote !== '') return quotation(stream, state);
  if (stream.eatSpace()) return null;
  const { isPiped } = state;
  state.isPiped = false;
  if (stream.match('#') || stream.match('//')) {
    stream.skipToEnd();
    return 'comment';
  }
  if (stream.match(/^--(?:strict|keep-empty)\b/)) return 'modifier';
  if (stream.match(/^-?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?[a-zA-Zµ]*/)) return 'number';
  const word = stream.match(/^[\p{L}_][\p{L}\p{N}_]*/u) as RegExpMatchArray | null;
  if (word) {
    const lower = word[0].toLowerCase();
    if (isPiped && STAGES.has(lower)) return 'keyword';
    if (stream.match(/^\s*\(/, false)) return CLAUSES.has(lower) || AGGREGATIONS.has(lower) ? 'keyword' : 'functionName';
    if (KEYWORDS.has(lower)) return 'operatorKeyword';
    if (AGGREGATIONS.has(lower) && stream.match(/^\s+(?:by|without)\b/i, false)) return 'keyword';
    return 'labelName';
  }
  const sign = stream.match(/^(?:\|[=~>]|![=~>]|=~|==|>=|<=)/) as RegExpMatchArray | null;
  if (sign) return sign[0].startsWith('|') || sign[0] === '!>' ? 'operatorKeyword' : 'operator';
  const c = stream.next() as string;
  if (c === '|') {
    state.isPiped = true;
    return 'operatorKeyword';
  }
  if (c === '"' || c === "'" || c === '`') {
    state.quote = c;
    return quotation(stream, state);
  }
  if (c === '(' || c === ')') return 'paren';
  if (c === '{' || c === '}') return 'brace';
  if (c === '[' || c === ']') return 'squareBracket';
  return /[-+*/%^=<>]/.test(c) ? 'operator' : null;
}

export const logql = StreamLanguage.define<State>({
  name: 'logql',
  startState: () => ({ quote: '', isPiped: false }),
  copyState: (state) => ({ ...state }),
  token,
  tokenTable: {
    functionName: tags.function(tags.variableName),
    labelName: tags.labelName,
    operatorKeyword: tags.operatorKeyword,
  },
  languageData: {
    closeBrackets: { brackets: ['(', '[', '{', '"', '`'] },
    commentTokens: { line: '#' },
  },
});
