/** What a dictionary's texts mean: `{name}` is filled in, `one | other` chooses by the count `n`. */

export type Values = Record<string, string | number>;

export function fill(text: string, values: Values = {}): string {
  let chosen = text;
  if (typeof values.n === 'number' && text.includes(' | ')) {
    const [one, other] = text.split(' | ') as [string, string];
    chosen = values.n === 1 ? one : other;
  }
  return chosen.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name];
    if (value === undefined) return whole;
    return typeof value === 'number' && name === 'n' ? grouped(value) : String(value);
  });
}

const grouped = (n: number): string => String(n).replace(/\B(?=(\d{3})+$)/g, ',');

/** The names a text wants filled in, sorted; translations must agree on them. */
export const placeholders = (text: string): string[] =>
  [...new Set([...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1] as string))].sort();
