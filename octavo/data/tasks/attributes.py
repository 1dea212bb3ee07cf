"""Attributes that a statement can give of an entity, each with the sort of its value. A list and its parsing only."""

from __future__ import annotations

_TABLE = """
number: secret number, lucky number, number, code, pass code, locker number, file number, telephone number,
 serial number, registration number, membership number, account number, licence number, room code, safe
 combination, door code, catalogue number, ticket number, badge number, seal number, parcel number, invoice
 number, order number, case number, patient number, call number, reference number, train number, prisoner
 number, library number, vault number, tax number, plot number, access code, signal code, radio code, postal
 code, stock number, contract number, record number, voucher number, claim number, permit number, secret code,
 identity number, PIN, key number, lottery number, tally
year: founding year, year of birth, building year, year of the fire, year of discovery, launch year, year of the
 flood, opening year, year of the treaty, year of death, election year, wedding year, planting year, year of the
 first harvest
word: password, key word, watchword, secret word, code word, magic word, countersign, motto, nickname, pet name,
 hidden word, sign, token, emblem, symbol, badge, mark, signal, code name, secret name, passphrase, label,
 title, alias, favourite word, last word, first word, war cry, codeword, keyword, inscription, greeting, answer,
 hint
colour: favourite colour, colour, flag colour, coat colour, eye colour, roof colour, door colour, sail colour,
 paint, ribbon colour, ink colour, cloak colour, team colour, favorite color, color, hair colour
person: owner, captain, founder, harbour master, mayor, teacher, doctor, best friend, brother, sister, father,
 mother, uncle, aunt, cousin, heir, rival, enemy, neighbour, tutor, landlord, partner, guardian, master,
 servant, cook, gardener, steward, clerk, builder, designer, inventor, director, editor, keeper, baker, tailor,
 husband, wife, secretary, treasurer, chief engineer, first mate, navigator, judge, lawyer, agent, patron,
 godfather, godmother, commander, governor, bishop, head librarian, night watchman, gatekeeper, ferryman,
 author, painter, king, queen, nephew, niece, tenant, successor
place: birthplace, home town, home port, capital, residence, hiding place, destination, meeting place, burial
 place, market town, summer house, last known address, workplace, place of origin, school, nearest station, port
 of call, headquarters, county, parish, refuge, native village, district, winter quarters, favourite place,
 location, address
time: closing time, opening time, departure time, arrival time, hour of departure, meeting hour, dinner hour,
 appointed time, waking time, hour of the meeting, curfew, start
money: price, rent, salary, wage, debt, cost, fare, fee, reward, ransom, fine, toll, bounty, dowry, weekly rent,
 value, tax, savings, pension, highest bid, deposit, annual income
thing: favourite animal, favourite tree, favourite flower, favourite song, favourite book, favourite game,
 cargo, weapon, main product, chief export, instrument, treasure, gift, prize, disguise, hobby, pet, crop, fuel,
 material, building stone, lucky charm, talisman, birthday present, payment, lost item, coat of arms,
 figurehead, greatest fear, latest purchase
food: favourite food, favourite dish, favourite drink, breakfast, supper, favourite dessert, usual lunch,
 speciality
trade: trade, profession, occupation, job, craft, calling, employment, former trade, business, line of work,
 post, rank
date: birthday, feast day, wedding day, deadline, day of departure, pay day, market day, holiday, sailing date,
 date of the trial, day of rest, name day
quantity: weight, height, length, width, depth, age, population, size, crew, number of rooms, number of windows,
 distance, speed, capacity, area, thickness
"""


def _parse(table: str) -> dict[str, str]:
    joined = table.strip().replace("\n ", " ")
    return {name.strip(): sort for sort, _, row in (line.partition(":") for line in joined.split("\n"))
            for name in row.split(",")}  # fmt: skip


ATTRIBUTES: dict[str, str] = _parse(_TABLE)
NAMES: tuple[str, ...] = tuple(ATTRIBUTES)
