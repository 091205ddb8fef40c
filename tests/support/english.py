"""A shop's datasets, and one whose names are words of the grammar: what sentences are tried on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from app.contracts import PFA, Contract, read_contract, stored_contract
from app.contracts.states import DatasetState
from app.engine.query.catalogue import AcceptedJoin, Catalogue, Queryable

HERE = Path(__file__).parent
FLEET = read_contract(HERE / "fleet.json")
CUSTOMERS = stored_contract((HERE / "customers.json").read_text(), schema="own_1", name="customers")


def contract(name: str, key: str, fields: str, **more: Any) -> Contract:
    """A contract of fields that are told as `name:type`; `name:enum:A,B` of an enum with its values."""
    found = [{"name": key, "type": "text", "editable": False}, *map(_field, fields.split())]
    document = {"name": name, "version": "1.0", "title": name, "schema": "own_2", "key": key, "fields": found} | more
    return msgspec.convert(document, Contract)


def _field(told: str) -> dict[str, Any]:
    name, kind, *values = told.split(":")
    indexed = kind in ("number", "integer")
    return {"name": name, "type": kind, "indexed": indexed} | ({"values": values[0].split(",")} if values else {})


ORDERS = contract(
    "orders",
    "orderId",
    "customerId:text vendorId:text resellerId:text amount:number quantity:integer date:date sentAt:datetime "
    "paid:boolean channel:enum:Web,Shop note:text",
    measures=[
        {"name": "turnover", "kind": "sum", "of": "amount"},
        {"name": "largest", "kind": "max", "of": "amount"},
    ],
)
VENDORS = contract("vendors", "vendorId", "name:text country:text rating:integer")
SHIPMENTS = contract("shipments", "shipmentId", "orderId:text date:date weight:number carrier:text")
SALES_REGIONS = contract("sales_regions", "regionId", "name:text manager:text budget:number")
# Names and labels that are words of the grammar, are alike but for capitals, or are no English.
ODD = msgspec.convert(
    {
        "name": "odd",
        "version": "1.0",
        "title": "Odd names",
        "schema": "own_3",
        "key": "where",
        "fields": [
            {"name": "where", "type": "text", "editable": False},
            {"name": "by", "type": "text", "label": "is empty"},
            {"name": "and", "type": "number", "indexed": True},
            {"name": "or", "type": "integer", "indexed": True},
            {"name": "not", "type": "boolean"},
            {"name": "total", "type": "number", "indexed": True, "label": "Sum total"},
            {"name": "top", "type": "integer", "indexed": True},
            {"name": "list", "type": "text", "label": 'the "list"'},
            {"name": "nowHere", "type": "text"},
            {"name": "nowhere", "type": "text", "label": "where"},
            {"name": "groesse", "type": "number", "label": "Größe"},
            {"name": "amount", "type": "number", "label": "数量"},
            {"name": "averageCost", "type": "number", "indexed": True},
            {"name": "cost", "type": "number", "indexed": True},
            {"name": "rows", "type": "integer", "indexed": True},
            {"name": "odd", "type": "integer", "indexed": True},
            {"name": "startsOn", "type": "date"},
            {"name": "oddRowsOf", "type": "datetime", "label": "O'Hara's"},
        ],
        "measures": [
            {"name": "cost", "kind": "average", "of": "cost"},
            {"name": "by", "kind": "sum", "of": "and"},
            {"name": "odds", "kind": "count", "of": "odd"},
        ],
    },
    Contract,
)


def queryable(contract: Contract) -> Queryable:
    return Queryable(contract=contract, state=DatasetState.ACTIVE, major=1)


def join(id: str, child: str, child_field: str, parent: str, parent_field: str) -> AcceptedJoin:
    return AcceptedJoin(
        id=id,
        version=1,
        child=child,
        child_fields=(child_field,),
        parent=parent,
        parent_fields=(parent_field,),
        confidence=0.9,
        accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


JOINS = (
    join("j-customer", "orders", "customerId", "customers", "customerId"),
    join("j-vendor", "orders", "vendorId", "vendors", "vendorId"),
    join("j-reseller", "orders", "resellerId", "vendors", "vendorId"),
    join("j-shipment", "shipments", "orderId", "orders", "orderId"),
    join("j-region", "customers", "region", "sales_regions", "regionId"),
    join("j-odd", "odd", "nowhere", "customers", "customerId"),
    join("j-self", "vendors", "country", "vendors", "vendorId"),
)


def catalogue(*contracts: Contract) -> Catalogue:
    return Catalogue(datasets={each.name: queryable(each) for each in contracts}, joins=JOINS)


EVERYTHING = catalogue(PFA, FLEET, CUSTOMERS, ORDERS, VENDORS, SHIPMENTS, SALES_REGIONS, ODD)
