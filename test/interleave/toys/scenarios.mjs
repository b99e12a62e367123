// What the simulator must find in the toys, and what it must not.

const LOCK = 4096;
const DATA = 4224;
const word = (machine, address) => machine.words[address >> 2];
const call = (...step) => ({ steps: [step] });
const times = (n, ...step) => Array.from({ length: n }, () => call(...step));
const counts = (wanted) => (machine) => (word(machine, DATA) === wanted ? null : `counter ${word(machine, DATA)}, wanted ${wanted}`);
const toy = (threads, check, more) => ({ memoryPages: 1, threads, check, ...more });

/** Nodes 1, 2, 3 on the stack. */
const filled = (machine) => {
  machine.words[LOCK >> 2] = 1;
  [2, 3, 0].forEach((next, i) => (machine.words[(DATA >> 2) + 2 * i] = next));
};
/** A thread that pops two nodes and pushes the first back. */
const popTwo = (prefix) => ({
  steps: [[`${prefix}op`, LOCK, DATA], [`${prefix}op`, LOCK, DATA], ([first]) => [prefix === "p" ? "push" : "tagPush", LOCK, DATA, first]],
});
const eachNodeOnce = (machine) => {
  const [one, two, ...more] = machine.threads.map(({ results }) => results);
  const nodes = [one[0], two[1], ...more.map(([node]) => node)].filter(Boolean);
  for (let node = word(machine, LOCK), i = 0; node && i < 9; node = word(machine, DATA + 8 * (node - 1)), ++i) nodes.push(node);
  return nodes.sort().join() === "1,2,3" ? null : `nodes ${nodes}`;
};
const untorn = (machine) => (machine.threads.slice(1).every(({ results: [sum] }) => sum === 0) ? null : "torn");

/** name -> { scenario, fails?: what the failure must match, kills? } */
export const toys = {
  "spin lock, 2x2": { scenario: toy(times(2, "spinAdd", LOCK, DATA, 2), counts(4)) },
  "spin lock, 3x1": { scenario: toy(times(3, "spinAdd", LOCK, DATA, 1), counts(3)) },
  "bounded spinning": {
    scenario: toy(times(3, "patientAdd", LOCK, DATA, 50), (machine) =>
      counts(machine.threads.reduce((sum, { results }) => sum + results[0], 0))(machine),
    ),
  },
  "atomic add, 3x2": { scenario: toy(times(3, "atomicAdd", DATA, 2), counts(6)) },
  "split add": { scenario: toy(times(2, "splitAdd", DATA), counts(2)), fails: /counter 1/ },
  "plain add": { scenario: toy(times(2, "plainAdd", DATA), counts(2)), fails: /counter 1/, races: /i32\.(load|store)/ },
  "test, then set": { scenario: toy(times(2, "testThenSetAdd", LOCK, DATA), counts(2)), fails: /counter 1/ },
  "mutex, 2x2": { scenario: toy(times(2, "mutexAdd", LOCK, DATA, 2), counts(4)) },
  "mutex, 3x1": { scenario: toy(times(3, "mutexAdd", LOCK, DATA, 1), counts(3)) },
  "forgetful mutex": { scenario: toy(times(2, "forgetfulAdd", LOCK, DATA), counts(2)), fails: /deadlock/ },
  "mutex with two sleepers": { scenario: toy(times(3, "twoSleepersAdd", LOCK, DATA), counts(3)), fails: /deadlock/ },
  "stack, reused node": { scenario: toy([call("pop", LOCK, DATA), popTwo("p")], eachNodeOnce, { setup: filled }), fails: /nodes/ },
  "stack, tagged": { scenario: toy([call("tagPop", LOCK, DATA), popTwo("tagP")], eachNodeOnce, { setup: filled }) },
  "stack, tagged, 3": {
    scenario: toy([call("tagPop", LOCK, DATA), popTwo("tagP"), call("tagPop", LOCK, DATA)], eachNodeOnce, { setup: filled }),
  },
  seqlock: { scenario: toy([call("sequenceWrite", LOCK, 2), call("sequenceRead", LOCK, 1)], untorn) },
  "seqlock, 2 readers": { scenario: toy([call("sequenceWrite", LOCK, 2), ...times(2, "sequenceRead", LOCK, 1)], untorn) },
  "seqlock, one look": { scenario: toy([call("sequenceWrite", LOCK, 2), call("sequenceRead", LOCK, 0)], untorn), fails: /torn/ },
  "messages between threads": {
    scenario: toy(
      [
        { steps: [["atomicAdd", DATA, 3]] },
        {
          steps: [
            { when: (machine) => machine.threads[0].next > 0, make: (_, machine) => ["atomicAdd", LOCK, machine.threads[0].results[0]] },
          ],
        },
      ],
      (machine) => (word(machine, LOCK) === 2 ? null : "the message was not received"),
    ),
  },
  "a message that never comes": {
    scenario: toy([{ steps: [{ when: () => false, make: ["atomicAdd", DATA, 3] }] }]),
    fails: /deadlock/,
  },
  "wait, never woken": { scenario: toy([call("waitFor", LOCK, 1000)]), fails: /deadlock/ },
  "wait, timed": { scenario: toy([call("waitFor", LOCK, 1000), call("wake", LOCK)], null, { timeouts: true }), outcomes: "0 1 2" },
  "wait, woken": { scenario: toy([call("waitFor", LOCK, -1), call("wake", LOCK)]), outcomes: "0 1" },
  "wait, 64 bits": { scenario: toy([call("wait64For", LOCK), call("wake", LOCK)]), outcomes: "0 1" },
  "instance globals": {
    races: /f64.store/,
    scenario: toy(times(2, "useGlobals", DATA), (machine) =>
      word(machine, DATA) === 34 && word(machine, DATA + 8) === 9 && machine.view.getFloat64(DATA + 16, true) === 6
        ? null
        : "globals are shared or lost",
    ),
  },
  growth: {
    scenario: toy(
      [call("growOne"), call("foreignGrow", 1), call("sizeNow")],
      (machine) => (machine.pages === 3 ? null : "a growth is lost"),
      { memoryPages: 4, initialPages: 1 },
    ),
  },
  "growth seen": {
    scenario: toy([call("sizeNow"), call("foreignGrow", 1), call("growOne")], null, { memoryPages: 4, initialPages: 1 }),
    outcomes: "1 2 3",
  },
  "access beyond the memory": { scenario: toy([call("plainAdd", 65536)], null, { memoryPages: 2, initialPages: 1 }), fails: /trap/ },
  "torn copy": {
    scenario: toy([call("copy", DATA, LOCK, 8), call("spinAdd", 8000, LOCK, 1)], (machine) =>
      [0, 1].includes(word(machine, DATA)) ? null : "neither before nor after",
    ),
    races: /memory\.copy/,
  },
  "copy and fill": {
    scenario: toy([
      {
        steps: [
          ["fill", LOCK, 2, 8],
          ["fill", LOCK, 4, 8],
        ],
      },
      {
        steps: [
          ["copy", DATA, LOCK, 8],
          ["atomicAdd", DATA, 0],
          ["sequenceRead", DATA, 0],
        ],
      },
    ]),
    races: /memory\.fill/,
  },
  "death, spin lock": { kills: 1, scenario: toy(times(2, "spinAdd", LOCK, DATA, 1)), fails: /livelock/ },
  "death, mutex": { kills: 1, scenario: toy(times(2, "mutexAdd", LOCK, DATA, 1)), fails: /deadlock/ },
  "death, recovered": { kills: 1, scenario: recovery(true) },
  "death, recovered without undo": { kills: 1, scenario: recovery(false), fails: /check/ },
};

function recovery(undo) {
  const worker = (me) => call("recoverableAdd", LOCK, DATA, me);
  const reaper = { dormant: true, immortal: true, steps: [(_, machine) => ["recover", LOCK, DATA, machine.deaths[0] + 1, undo ? 1 : 0]] };
  return toy([worker(1), worker(2), reaper], (machine) => {
    const finished = machine.threads.filter(({ id, next }) => id < 2 && next > 0).length;
    const counter = word(machine, DATA);
    return counter >= finished && counter <= 2 && word(machine, DATA + 4) === 0
      ? null
      : `counter ${counter}, ${finished} finished, record ${word(machine, DATA + 4)}`;
  });
}
