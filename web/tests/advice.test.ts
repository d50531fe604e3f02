import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ADVICE_ZH } from '../src/lib/alerts/advice-zh';
import { bareMessage, placeIn } from '../src/lib/alerts/template-fault';
import { translated } from '../src/lib/alerts/translated';

const source = (path: string): string => readFileSync(new URL(`../../crates/${path}`, import.meta.url), 'utf8').replace(/\\\n\s*/g, '');
/** What the page says by itself, for each language of rules. */
const OWN = ['try the expression as a query; when it works there, it works here', 'add the expression to evaluate: expr: up == 0'];

describe('advice about groups of rules', () => {
  test('is there in Chinese', () => {
    const rules = source('settings/src/prometheus/rules/read.rs');
    const advice = [...rules.matchAll(/help = (?:if [^"]*)?"([^"]*)"|else \{\s*"([^"]*)"|Some\("([^"]*)"\)/g)].map(([, a, b, c]) => a ?? b ?? c ?? '');
    expect(advice.length).toBeGreaterThan(12);
    const missing = advice.filter((text) => !OWN.includes(text) && !/[\u4e00-\u9fff]/.test(translated(ADVICE_ZH, text)));
    expect(missing).toEqual([]);
    for (const own of OWN) expect(advice).toContain(own);
  });

  test('keeps what it names', () => {
    expect(translated(ADVICE_ZH, 'did you mean `for`?')).toBe('是否想写 `for`？');
    expect(translated(ADVICE_ZH, 'somebody else’s words')).toBe('somebody else’s words');
  });
});

describe('the fault of a template', () => {
  const at = (template: string, message: string, line: number | null, column: number | null, of = '') => {
    const place = placeIn(template, { message, template: of, line, column });
    if (place === null) return null;
    const letters = [...(template.split('\n')[place.line - 1] ?? '')];
    const from = (place.column ?? 1) - 1;
    return [place.line, place.column, letters.slice(from, from + place.length).join('')];
  };

  test('is where it was run, in characters', () => {
    const message = 'template: :2:21: executing "" at <.Alerts.Foo>: can\'t evaluate field Foo in type template.Alerts';
    expect(at('one\ntwo 你好 {{ .Alerts.Foo }}', message, 2, 21)).toEqual([2, 11, '.Alerts.Foo']);
    expect(bareMessage(message)).toMatch(/^executing/);
    expect(at('x {{ template "nope" . }}', 'template: :1:14: executing "" at <{{template "nope" .}}>: template "nope" not defined', 1, 5)).toEqual([1, 6, 'template "nope" .']);
  });

  test('is what the parser names, or else the line', () => {
    expect(at('a\nb {{ .Foo | bad }}', 'template: :2: function "bad" not defined', 2, null)).toEqual([2, 13, 'bad']);
    expect(at('{{ .Foo', 'template: :1: unclosed action', 1, null)).toEqual([1, 1, '{{ .Foo']);
    expect(at('two {{ if }}', 'template: :1: missing value for if', 1, null)).toEqual([1, null, 'two {{ if }}']);
  });

  test('is the block that is not closed', () => {
    expect(at('a\n{{ range .Alerts }}\n{{ if .X }}b{{ end }}\n', 'template: :4: unexpected EOF', 4, null)).toEqual([2, 1, '{{ range .Alerts }}']);
  });

  test('has no place in a template of a file', () => {
    expect(at('x', 'template: mail:3: bad', 3, null, 'mail')).toBe(null);
    expect(at('x', 'too many steps', null, null)).toBe(null);
  });
});
