import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { BUILTIN_ZH, inChinese } from '../src/lib/alerts/builtin-zh';

/** The rules as they stand in the source of the server: their texts, with `{…}` for what templates put in. */
function builtin(): [string, string, string][] {
  const source = readFileSync(new URL('../../crates/alerting/src/rules/builtin.rs', import.meta.url), 'utf8').replace(/\\\n\s*/g, '');
  const text = (rule: string, key: string): string => new RegExp(`^\\s*${key}: "((?:[^"\\\\]|\\\\.)*)"`, 'm').exec(rule)?.[1] ?? '';
  const rules = source.split('BuiltinRule {').filter((part) => /^\s*group: "/.test(part));
  return rules.map((rule) => [text(rule, 'name'), text(rule, 'summary'), text(rule, 'description')]);
}

const filled = (template: string): string => template.replace(/\{\{ (if|with) .*\{\{ end \}\}/g, 'x').replace(/\{\{.*?\}\}/g, 'x');

describe('rules that come along', () => {
  test('each says in Chinese what it says in English', () => {
    const rules = builtin();
    expect(rules.length).toBeGreaterThan(25);
    expect(Object.keys(BUILTIN_ZH).sort()).toEqual(rules.map(([name]) => name).sort());
    for (const [name, summary, description] of rules) {
      for (const text of [summary, description]) {
        // As the page of rules has it, and as alerts do.
        expect(inChinese(name, text), `${name}: ${text}`).toMatch(/[\u4e00-\u9fff]/);
        expect(inChinese(name, filled(text)), `${name}: ${filled(text)}`).toMatch(/[\u4e00-\u9fff]/);
      }
    }
  });

  test('what the server put in is at its place', () => {
    expect(inChinese('DiskNearlyFull', '/var on db-1 has 3.2% left')).toBe('db-1 上的 /var 仅剩 3.2% 空间');
  });

  test('what somebody else says under the same name stays', () => {
    expect(inChinese('TargetGone', 'our own text')).toBe('our own text');
    expect(inChinese('Unknown', 'x')).toBe('x');
  });
});
