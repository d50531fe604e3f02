/** Texts of the server in another language, by the patterns they follow. */

const patterns = new Map<string, RegExp>();

function patternOf(english: string): RegExp {
  let pattern = patterns.get(english);
  if (pattern === undefined) {
    const literal = english.split('{…}').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    pattern = new RegExp(`^${literal.join('(.+?)')}$`, 's');
    patterns.set(english, pattern);
  }
  return pattern;
}

/**
 * The text as a table has it: pairs of a pattern, in which `{…}` stands for anything, and its translation, which has that by its
 * place, from 0. A text that no pattern fits stays as it is.
 */
export function translated(table: readonly (readonly [string, string])[], text: string): string {
  for (const [english, other] of table) {
    const match = patternOf(english).exec(text);
    if (match) return other.replace(/\{(\d)\}/g, (_, place: string) => match[Number(place) + 1] ?? '');
  }
  return text;
}
