import { load, save } from '../storage';
import { en, type Dictionary, type Key } from './en';
import { fill, type Values } from './fill';
import { zh } from './zh';

export type Language = 'en' | 'zh';
export type { Key } from './en';

const DICTIONARIES: Record<Language, Dictionary> = { en, zh };
const TAGS: Record<Language, string> = { en: 'en', zh: 'zh-CN' };
const isLanguage = (value: unknown): value is Language => value === 'en' || value === 'zh';

function preferred(): Language {
  return navigator.languages.some((tag) => tag.toLowerCase().startsWith('zh')) &&
    !navigator.languages[0]?.toLowerCase().startsWith('en')
    ? 'zh'
    : 'en';
}

let language = $state<Language>(load('language', isLanguage) ?? preferred());
document.documentElement.lang = TAGS[language];

export const i18n = {
  get language(): Language {
    return language;
  },
  choose(next: Language): void {
    language = next;
    document.documentElement.lang = TAGS[next];
    save('language', next);
  },
  toggle(): void {
    i18n.choose(language === 'en' ? 'zh' : 'en');
  },
};

/** The text of a key in the chosen language; reactive wherever it is read in a component. */
export const t = (key: Key, values?: Values): string => fill(DICTIONARIES[language][key], values);

/** Like {@link t} for keys made at run time, such as a process state; yields the fallback for unknown ones. */
export const tOr = (key: string, fallback: string): string =>
  key in DICTIONARIES[language] ? t(key as Key) : fallback;
