/** Characters of a line that would not be seen, or would make others be seen elsewhere. */

// eslint-disable-next-line no-control-regex
const HIDDEN = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]/g;
// eslint-disable-next-line no-control-regex
const TURNS = /\r?\n/g;

const nameOf = (sign: string): string => `<U+${sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}>`;

/** A text with what is hidden in it by its name: text that turns its direction could otherwise pass for another. */
export const visible = (text: string): string => (text.search(HIDDEN) < 0 ? text : text.replace(HIDDEN, nameOf));

/** Likewise on one row, with a sign where a line ends. */
export const onOneRow = (text: string): string => visible(text.includes('\n') ? text.replace(TURNS, ' ↵ ') : text);
