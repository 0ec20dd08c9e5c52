"use strict";
// Shows the OpenAPI document that the page names. It is never sent to a validator elsewhere.
{
  const place = document.getElementById("api");
  SwaggerUIBundle({
    url: place.dataset.document,
    domNode: place,
    deepLinking: true,
    validatorUrl: null,
    docExpansion: "none",
    defaultModelsExpandDepth: 0,
  });
}
