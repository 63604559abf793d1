-- One row per product on sale. Item IDs have letters, digits and dashes only, so other characters are replaced.
SELECT
    products.id,
    replace(products.sku, '_', '-') AS item_id,
    products.name,
    products.price,
    products.on_sale_since,
    products.attributes
FROM products
WHERE products.on_sale = 1
