import { describe, expect, it } from 'vitest';
import { readLines } from '../src/lib/api/names';
import { invites, matched } from '../src/lib/explore/complete';
import { promql } from '../src/lib/explore/language';
import { highlightTree, tagHighlighter, tags } from '@lezer/highlight';

describe('completion', () => {
  it('begins where something is written, not behind blanks and numbers, but for those behind a comma or a pipe', () => {
    for (const text of ['up', 'sum(', 'up{', 'up{a="', 'sum by (a,', 'x[', 'x[5', 'a{b=', 'rate(a_1', 'x[1h:5', 'sum by (a, ', '{a="b"} | ']) expect([text, invites(text)]).toEqual([text, true]);
    for (const text of ['', 'up ', 'up)', '12', 'up + 1.5', '1e', 'x[5m]', 'a{}', '{a="b"} |  ']) expect([text, invites(text)]).toEqual([text, false]);
  });

  it('marks what was typed', () => {
    expect(matched('node_cpu_seconds', 'CPU')).toEqual([5, 8]);
    expect(matched('node_load1', 'nl1')).toEqual([0, 1, 5, 6, 9, 10]);
    expect(matched('rate', '')).toEqual([]);
  });
});

describe('answers of a search', () => {
  it('are lines of batches and an end', () => {
    const text = '{"results":[{"name":"a"},{"name":"b","type":"gauge"}]}\n{"results":[{"name":"c"}]}\n{"status":"success","has_more":true}\n';
    expect(readLines(text)).toEqual({ names: [{ name: 'a' }, { name: 'b', type: 'gauge' }, { name: 'c' }], hasMore: true });
  });

  it('may end with an error, or too early', () => {
    expect(() => readLines('{"results":[]}\n{"status":"error","errorType":"timeout","error":"too slow"}\n')).toThrow('too slow');
    expect(() => readLines('{"results":[]}\n')).toThrow('ended');
  });
});

describe('colours', () => {
  const kinds = tagHighlighter([
    { tag: tags.variableName, class: 'metric' },
    { tag: tags.function(tags.variableName), class: 'function' },
    { tag: tags.keyword, class: 'keyword' },
    { tag: tags.operatorKeyword, class: 'keyword' },
    { tag: tags.labelName, class: 'label' },
    { tag: tags.string, class: 'string' },
    { tag: tags.number, class: 'number' },
    { tag: tags.comment, class: 'comment' },
  ]);
  const shown = (text: string): string => {
    const parts: string[] = [];
    highlightTree(promql.parser.parse(text), kinds, (from, to, kind) => parts.push(`${text.slice(from, to)}:${kind}`));
    return parts.join(' ');
  };

  it('tell words apart by where they stand', () => {
    expect(shown('sum by (job, by) (rate(a:b{x=~"y", le!="1"}[5m] offset 1h)) # all')).toBe(
      'sum:keyword by:keyword job:label by:label rate:function a:b:metric x:label "y":string le:label "1":string 5m:number offset:keyword 1h:number # all:comment',
    );
    expect(shown('a / on (x) group_left b or fill > bool 1.5e3')).toBe('a:metric on:keyword x:label group_left:keyword b:metric or:keyword fill:metric bool:keyword 1.5e3:number');
    expect(shown('x[1h:min_of(5m, step())] @ end()')).toBe('x:metric 1h:number min_of:keyword 5m:number step:keyword end:keyword');
    expect(shown('{"with.dot", `raw"` = \'it\\\'s\'}')).toBe('"with.dot":string `raw"`:string \'it\\\'s\':string');
  });
});
